import { setTimeout as delay } from 'node:timers/promises';

/** Waits after the first heartbeats, in milliseconds: a node may not listen yet when the first one comes. */
const FIRST_WAITS = [250, 750];
/** Go nodes take a nexlet for degraded after 10 s without heartbeat. */
const INTERVAL = 4_000;

/** Calls `beat` at once, after 250 ms, after 1 s, then every 4 s. `beat` must not reject. */
export class Heartbeat {
  readonly #beat: () => Promise<void>;
  #restarted = new AbortController();

  constructor(beat: () => Promise<void>) {
    this.#beat = beat;
  }

  /** Beats until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    for (let count = 0; !signal.aborted; count++) {
      await this.#beat();
      const { signal: restarted } = this.#restarted;
      try {
        await delay(FIRST_WAITS[count] ?? INTERVAL, undefined, { signal: AbortSignal.any([signal, restarted]) });
      } catch (error) {
        if (!signal.aborted && !restarted.aborted) throw error;
      }
      if (!restarted.aborted) continue;
      this.#restarted = new AbortController();
      count = -1;
    }
  }

  /** Begins anew with a beat at once: whoever listens may just have begun to. */
  restart(): void {
    this.#restarted.abort();
  }
}
