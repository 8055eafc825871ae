import { ControllerError } from '../controller-error.ts';
import type { Logger } from '../logger.ts';
import type { JsonBucket } from '../store/json-bucket.ts';
import { Wakeup } from '../wakeup.ts';
import type { LeaseSchema } from './leader-lease.ts';

/** How soon a renewal is tried again that failed, in milliseconds. */
const RETRY = 250;

interface TermParts {
  bucket: JsonBucket<typeof LeaseSchema>;
  key: string;
  value: { id: string; term: string };
  revision: number;
  /** When the lease was asked for, by the monotonic clock. */
  sentAt: number;
  lapsed: string | undefined;
  timings: { holdsMs: number; renewMs: number };
  logger: Logger;
}

/**
 * A term of office: as long as the lease is renewed. Its end is reckoned from when a renewal was sent, not answered, so
 * it comes before anybody else can take the lease. Disposing gives the lease back.
 */
export class Term implements AsyncDisposable {
  readonly id: string;
  /** Who held the lease before and did not give it back, as far as known. */
  readonly lapsed: string | undefined;
  /** Aborted when the term ends. */
  readonly signal: AbortSignal;
  readonly #parts: TermParts;
  readonly #abort = new AbortController();
  readonly #wakeup = new Wakeup();
  readonly #renewing: Promise<void>;
  #revision: number;
  #deadline: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: TermParts) {
    this.id = parts.value.term;
    this.lapsed = parts.lapsed;
    this.signal = this.#abort.signal;
    this.#parts = parts;
    this.#revision = parts.revision;
    this.#deadline = this.#extend(parts.sentAt);
    this.#renewing = this.#renew();
  }

  /** @throws {ControllerError} CONTROLLER_LEASE_LOST when somebody else may hold the lease by now, to the millisecond */
  check(): void {
    if (performance.now() < this.#deadline && !this.signal.aborted) return;
    this.end('it was not renewed in time');
    throw this.signal.reason;
  }

  /** Ends the term before its time. */
  end(why: string): void {
    if (this.signal.aborted) return;
    this.#abort.abort(new ControllerError('CONTROLLER_LEASE_LOST', `Cannot act for the deployments any more: ${why}`));
    this.#wakeup.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end('this controller stops');
    clearTimeout(this.#timer);
    await this.#renewing;
    if (performance.now() >= this.#deadline) return;
    const { bucket, key, logger } = this.#parts;
    try {
      await bucket.release(key, this.#revision);
    } catch (error) {
      // It ends by itself.
      logger.debug({ err: error }, 'the lease cannot be given back');
    }
  }

  #extend(sentAt: number): number {
    const deadline = sentAt + this.#parts.timings.holdsMs;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end('the lease was not renewed in time'), deadline - performance.now());
    return deadline;
  }

  async #renew(): Promise<void> {
    let wait = this.#parts.timings.renewMs;
    for (;;) {
      await this.#wakeup.pause(wait, this.signal);
      if (this.signal.aborted) return;
      wait = (await this.#renewOnce()) ? this.#parts.timings.renewMs : RETRY;
    }
  }

  async #renewOnce(): Promise<boolean> {
    const { bucket, key, value, logger } = this.#parts;
    const sentAt = performance.now();
    try {
      const revision = await bucket.set(key, value, this.#revision);
      if (revision !== undefined) {
        this.#revision = revision;
        if (!this.signal.aborted) this.#deadline = this.#extend(sentAt);
        return true;
      }
      // A renewal whose answer was lost is ours all the same.
      const entry = await bucket.get(key);
      if (entry?.value.term !== this.id) this.end('another controller has the lease');
      else this.#revision = entry.revision;
    } catch (error) {
      logger.warn({ err: error }, 'the lease cannot be renewed');
    }
    return false;
  }
}
