import { setTimeout as delay } from 'node:timers/promises';
import type { OnDevEvent } from './dev-event.ts';
import { NatsServer, type NatsServerOptions } from './nats-server.ts';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
/** A server that ran this long was healthy: its next failure counts as the first. */
const STABLE_MS = 30_000;

export interface SupervisedServerOptions extends NatsServerOptions {
  onEvent: OnDevEvent;
}

/** A nats-server that is started again on the same ports whenever it ends, until this is disposed of. */
export class SupervisedServer implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly monitorUrl: string;
  readonly #options: NatsServerOptions;
  readonly #onEvent: OnDevEvent;
  readonly #stopping = new AbortController();
  readonly #watching: Promise<void>;
  #server: NatsServer;

  private constructor(server: NatsServer, { onEvent, binary, config }: SupervisedServerOptions) {
    this.#server = server;
    this.url = server.url;
    this.port = Number(new URL(server.url).port);
    this.monitorUrl = server.monitorUrl;
    const monitorPort = Number(new URL(server.monitorUrl).port);
    this.#options = { binary, config: { ...config, port: this.port, monitorPort }, signal: this.#stopping.signal };
    this.#onEvent = onEvent;
    this.#watching = this.#watch();
  }

  static async start(options: SupervisedServerOptions): Promise<SupervisedServer> {
    const server = await NatsServer.start(options);
    options.onEvent({ type: 'server-started', pid: server.pid, url: server.url, restarted: false });
    return new SupervisedServer(server, options);
  }

  /** Process id of the run that is current, or was the last. */
  get pid(): number {
    return this.#server.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#server[Symbol.asyncDispose]();
    await this.#watching;
    // A restart may have come through between the two.
    await this.#server[Symbol.asyncDispose]();
  }

  async #watch(): Promise<void> {
    let restartInMs = FIRST_DELAY_MS;
    while (!this.#stopping.signal.aborted) {
      const started = performance.now();
      const { code, signal } = await this.#server.exited;
      if (this.#stopping.signal.aborted) return;
      if (performance.now() - started > STABLE_MS) restartInMs = FIRST_DELAY_MS;
      this.#onEvent({ type: 'server-ended', code, signal, restartInMs });
      restartInMs = await this.#restart(restartInMs);
    }
  }

  /** Tries until the server listens again. Returns how long to wait after its next failure. */
  async #restart(firstDelayMs: number): Promise<number> {
    const { signal } = this.#stopping;
    let waitMs = firstDelayMs;
    for (;;) {
      try {
        await delay(waitMs, undefined, { signal });
        waitMs = Math.min(waitMs * 2, LONGEST_DELAY_MS);
        this.#server = await NatsServer.start(this.#options);
        this.#onEvent({ type: 'server-started', pid: this.#server.pid, url: this.#server.url, restarted: true });
        return waitMs;
      } catch (error) {
        if (signal.aborted) return waitMs;
        this.#onEvent({ type: 'server-restart-failed', error, restartInMs: waitMs });
      }
    }
  }
}
