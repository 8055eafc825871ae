import { setTimeout as delay } from 'node:timers/promises';

/** Waits between the first heartbeats, in milliseconds: a node may not listen yet when the first one comes. */
const FIRST_WAITS = [250, 750];
/** Go nodes take a nexlet for degraded after 10 s without heartbeat. */
const INTERVAL = 4_000;

/** Calls `beat` at once, after 250 ms, after 1 s, then every 4 s, until aborted. `beat` must not reject. */
export async function keepBeating(beat: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (let count = 0; !signal.aborted; count++) {
    await beat();
    try {
      await delay(FIRST_WAITS[count] ?? INTERVAL, undefined, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
