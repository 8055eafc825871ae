import { setTimeout as delay } from 'node:timers/promises';
import { toPublicError } from '@nex-nix/errors';
import type { ServiceState, ServiceStatus } from '../dev-controls.ts';
import { DevError } from '../dev-error.ts';
import type { Run, Service } from './service.ts';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
/** One that was ready for this long was healthy: its next failure counts as the first. */
const HEALTHY_MS = 30_000;

/** What a supervisor hears of each of its services. */
export interface KeptServiceListener {
  /** A line about what became of it. */
  say(text: string): void;
  changed(): void;
}

/** One service: started, started again whenever it ends by itself, or when somebody asks for it, until it is stopped. */
export class KeptService {
  readonly service: Service;
  /** Resolves when it was ready for the first time. */
  readonly isUp: Promise<void>;
  readonly #up = Promise.withResolvers<void>();
  readonly #listener: KeptServiceListener;
  readonly #stopping = new AbortController();
  #status: ServiceStatus;
  #run: Run | undefined;
  #keeping: Promise<void> = Promise.resolve();
  /** Ends whatever waits: for the end of the run, or for the next attempt. */
  #bell = Promise.withResolvers<undefined>();
  #asked: PromiseWithResolvers<void> | undefined;

  constructor(service: Service, listener: KeptServiceListener) {
    this.service = service;
    this.#listener = listener;
    this.isUp = this.#up.promise;
    this.isUp.catch(() => undefined);
    this.#status = { name: service.name, state: 'waiting', since: new Date().toISOString(), restarts: 0 };
  }

  get status(): ServiceStatus {
    return { ...this.#status };
  }

  /** What it has printed last. */
  set lastLine(text: string) {
    this.#status.lastLine = text;
  }

  waitsFor(names: readonly string[]): void {
    this.#set('waiting', { reason: `waits for ${names.join(' and ')}` });
  }

  /** One that it waits for has failed. */
  neverStarted(why: unknown): void {
    this.#up.reject(why);
    this.#set('stopped');
  }

  /** Starts it, and keeps it from then on. Errors: what the service throws; then it is not started again. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      await this.#attempt(AbortSignal.any([signal, this.#stopping.signal]));
    } catch (error) {
      this.#up.reject(error);
      const { message } = toPublicError(error);
      if (signal.aborted || this.#stopping.signal.aborted) this.#set('stopped');
      else {
        this.#set('failed', { reason: message });
        this.#listener.say(message);
      }
      throw error;
    }
    this.#up.resolve();
    this.#keeping = this.#keep();
  }

  /** Ends it and starts it again. Resolves when it is ready. Errors: why the first attempt failed; more follow all the same. */
  async restart(): Promise<void> {
    const asked = (this.#asked ??= Promise.withResolvers<void>());
    this.#bell.resolve(undefined);
    await asked.promise;
  }

  /** Ends it for good. One that has failed stays so. */
  async stop(): Promise<void> {
    const wasUp = this.#run !== undefined;
    this.#stopping.abort();
    if (wasUp) this.#set('stopping');
    this.#bell.resolve(undefined);
    await this.#keeping;
    await this.#end();
    if (this.#status.state === 'failed') return;
    if (wasUp) this.#listener.say('stopped');
    this.#set('stopped');
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stopping;
    let waitMs = FIRST_DELAY_MS;
    while (!signal.aborted) {
      const upSince = performance.now();
      const ended = await this.#untilEnded();
      if (signal.aborted) break;
      if (ended === undefined) this.#set('stopping', { reason: 'is started again, as somebody asked for it' });
      await this.#end();
      if (ended !== undefined) {
        if (performance.now() - upSince > HEALTHY_MS) waitMs = FIRST_DELAY_MS;
        this.#status.restarts++;
        await this.#pause(`ended with ${ended}`, waitMs);
        waitMs = longer(waitMs);
      }
      waitMs = await this.#attemptUntilUp(waitMs);
    }
    this.#asked?.reject(
      new DevError('DEVENV_GONE', `Cannot start the service "${this.service.name}" again: all are stopped`),
    );
  }

  /** How the run has ended by itself; nothing when somebody wants it ended. */
  async #untilEnded(): Promise<string | undefined> {
    const woken = this.#woken();
    return this.#run === undefined ? woken : Promise.race([this.#run.ended, woken]);
  }

  /** Returns how long to wait after its next failure. */
  async #attemptUntilUp(firstDelayMs: number): Promise<number> {
    const { signal } = this.#stopping;
    let waitMs = firstDelayMs;
    while (!signal.aborted) {
      const asked = this.#asked;
      this.#asked = undefined;
      try {
        await this.#attempt(signal);
        asked?.resolve();
        return waitMs;
      } catch (error) {
        asked?.reject(error);
        if (signal.aborted) break;
        await this.#pause(toPublicError(error).message, waitMs);
        waitMs = longer(waitMs);
      }
    }
    return waitMs;
  }

  async #attempt(signal: AbortSignal): Promise<void> {
    this.#set('starting');
    signal.throwIfAborted();
    const run = await this.service.start(signal);
    this.#run = run;
    this.#set(run === undefined ? 'done' : 'ready', { pid: run?.pid, url: run?.url });
    const where = run?.url === undefined ? '' : ` at ${run.url}`;
    const who = run?.pid === undefined ? '' : ` (process ${run.pid})`;
    this.#listener.say(run === undefined ? 'done' : `ready${where}${who}`);
  }

  async #end(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    await run?.[Symbol.asyncDispose]();
  }

  /** Waits before the next attempt, unless somebody asks for it now. */
  async #pause(why: string, waitMs: number): Promise<void> {
    const reason = `${why}; starting it again in ${waitMs} ms`;
    this.#set('restarting', { reason });
    this.#listener.say(reason);
    const over = new AbortController();
    await Promise.race([
      this.#woken(),
      delay(waitMs, undefined, { signal: over.signal }).catch((error: unknown) => {
        if (!over.signal.aborted) throw error;
      }),
    ]);
    over.abort();
  }

  /** Resolves when somebody wants something. Each wait has a bell of its own, so that none piles up listeners. */
  async #woken(): Promise<undefined> {
    if (this.#asked !== undefined || this.#stopping.signal.aborted) return undefined;
    this.#bell = Promise.withResolvers<undefined>();
    return this.#bell.promise;
  }

  #set(state: ServiceState, { reason, pid, url }: Partial<ServiceStatus> = {}): void {
    const { name, restarts, lastLine } = this.#status;
    const where = url ?? this.#status.url;
    this.#status = {
      name,
      state,
      since: new Date().toISOString(),
      restarts,
      ...(pid === undefined ? {} : { pid }),
      ...(where === undefined ? {} : { url: where }),
      ...(reason === undefined ? {} : { reason }),
      ...(lastLine === undefined ? {} : { lastLine }),
    };
    this.#listener.changed();
  }
}

function longer(waitMs: number): number {
  return Math.min(waitMs * 2, LONGEST_DELAY_MS);
}
