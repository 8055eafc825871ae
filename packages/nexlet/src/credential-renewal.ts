import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnectionData } from '@nex-nix/protocol';
import type { Logger } from './logger.ts';
import { expiryOf } from './registration.ts';

/** Longest wait of a Node.js timer, in milliseconds. */
const MAX_TIMER = 2 ** 31 - 1;
const MIN_WAIT = 1_000;

export interface RenewalOptions {
  current: () => NatsConnectionData;
  /** Gets new connection data and makes them current. */
  renew: (signal: AbortSignal) => Promise<void>;
  logger: Logger;
  signal: AbortSignal;
}

/**
 * Renews credentials when four fifths of the time they have left are over, until aborted. The connection takes the new
 * ones at its next reconnect, which the server forces when the old ones end.
 */
export async function keepCredentials({ current, renew, logger, signal }: RenewalOptions): Promise<void> {
  while (!signal.aborted) {
    const expiry = expiryOf(current());
    if (expiry === undefined) return;
    const wait = Math.max(MIN_WAIT, (expiry - Date.now()) * 0.8);
    try {
      await delay(Math.min(wait, MAX_TIMER), undefined, { signal, ref: false });
      if (wait <= MAX_TIMER) await renew(signal);
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ err: error, expires: new Date(expiry).toISOString() }, 'credentials could not be renewed');
    }
  }
}
