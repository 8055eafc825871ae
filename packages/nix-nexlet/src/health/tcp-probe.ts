import { once } from 'node:events';
import { connect } from 'node:net';
import { failed, HEALTHY, type Probe, type ProbeResult } from './probe.ts';

/** Healthy when something accepts a connection at the port. `address`: the sandbox's own; undefined while it has none. */
export class TcpProbe implements Probe {
  readonly #port: number;
  readonly #address: () => Promise<string | undefined>;

  constructor(port: number, address: () => Promise<string | undefined>) {
    this.#port = port;
    this.#address = address;
  }

  async check(signal: AbortSignal): Promise<ProbeResult> {
    const host = await this.#address();
    if (host === undefined) return failed('it has no address');
    const socket = connect({ host, port: this.#port });
    try {
      await once(socket, 'connect', { signal });
      return HEALTHY;
    } catch (error) {
      if (signal.aborted) return failed(`port ${this.#port} does not answer in time`);
      return failed(`port ${this.#port} cannot be connected to: ${reasonOf(error)}`);
    } finally {
      socket.on('error', ignore).destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** What may come after the connection has served its purpose. */
const ignore = (): void => undefined;

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
