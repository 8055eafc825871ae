import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnectionData } from '@nex-nix/protocol';
import { expiryOf } from './credential-expiry.ts';
import type { Logger } from './logger.ts';

/** Longest wait of a Node.js timer, in milliseconds. */
const MAX_TIMER = 2 ** 31 - 1;
const MIN_WAIT = 1_000;

export interface RenewalOptions {
  /** Gets new credentials, puts them to use, and aborts the care for these ones. */
  renew: () => Promise<void>;
  logger: Logger;
  signal: AbortSignal;
}

/**
 * Has credentials renewed when four fifths of the time they have left are over, again and again until aborted. The
 * connection takes the new ones at its next reconnect, which the server forces when the old ones end.
 */
export async function keepCredentials(
  credentials: NatsConnectionData,
  { renew, logger, signal }: RenewalOptions,
): Promise<void> {
  const expiry = expiryOf(credentials);
  if (expiry === undefined) return;
  while (!signal.aborted) {
    const wait = Math.max(MIN_WAIT, (expiry - Date.now()) * 0.8);
    try {
      await delay(Math.min(wait, MAX_TIMER), undefined, { signal, ref: false });
      if (wait <= MAX_TIMER) await renew();
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ err: error, expires: new Date(expiry).toISOString() }, 'credentials could not be renewed');
    }
  }
}
