import type { NatsConnection, Subscription } from '@nats-io/nats-core';
import { newId } from '@nex-nix/protocol';
import { Type } from 'typebox';
import { ControllerError } from '../controller-error.ts';
import type { Logger } from '../logger.ts';
import { JsonBucket } from '../store/json-bucket.ts';
import { Wakeup } from '../wakeup.ts';
import { Term } from './term.ts';

const KEY = 'leader';
/** Standing by, who hears nothing tries again after about this time, in milliseconds. */
const RETRY = 500;

export const LeaseSchema = Type.Object({
  /** Which controller. */
  id: Type.String(),
  /** Which term of office. */
  term: Type.String(),
});

export interface LeaseTimings {
  /** How long a lease holds that is not renewed, in milliseconds, where this call makes the bucket. */
  ttlMs: number;
  /** Time between renewals. */
  renewMs: number;
  /** How long before its end at the server who holds it stops to act: clocks are not all alike. */
  marginMs: number;
}

/**
 * Elects one controller: a key in a bucket whose values end by themselves. It is made, renewed and given back by
 * compare-and-set. Renewals are messages that everybody hears, so that who stands by asks for nothing while they come.
 */
export class LeaderLease implements AsyncDisposable {
  readonly #nc: NatsConnection;
  readonly #id: string;
  readonly #timings: LeaseTimings;
  readonly #logger: Logger;
  readonly #bucket: JsonBucket<typeof LeaseSchema>;
  readonly #wakeup = new Wakeup();
  readonly #subscription: Subscription;
  /** The last sign of life of whoever holds it. */
  #heard: { holder: string; at: number } | undefined;

  constructor(
    nc: NatsConnection,
    {
      id,
      timings,
      logger,
      replicas,
    }: { id: string; timings: LeaseTimings; logger: Logger; replicas?: number | undefined },
  ) {
    this.#nc = nc;
    this.#id = id;
    this.#timings = timings;
    this.#logger = logger;
    this.#bucket = new JsonBucket(nc, {
      name: 'nex_controller',
      schema: LeaseSchema,
      ttlMs: timings.ttlMs,
      timeoutMs: timings.renewMs,
      replicas,
    });
    this.#subscription = nc.subscribe(this.#bucket.subject(KEY), {
      callback: (error, msg) => {
        if (error === null) this.#hear(msg.headers?.get('Nats-Expected-Last-Subject-Sequence') ?? '', msg.data);
        else this.#logger.warn({ err: error }, 'renewals of the lease cannot be heard');
      },
    });
  }

  /**
   * Waits for its turn, however long.
   *
   * @throws what `signal` was aborted with; {@link ControllerError} CONTROLLER_OPTION_INVALID
   */
  async acquire(signal: AbortSignal): Promise<Term> {
    for (;;) {
      signal.throwIfAborted();
      const term = await this.#take(signal);
      if (term !== undefined) return term;
      await this.#wait(signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#subscription.isClosed()) this.#subscription.unsubscribe();
  }

  async #take(signal: AbortSignal): Promise<Term | undefined> {
    try {
      const ttlMs = await this.#ttl();
      // One that is given back is heard of: what is left lapsed.
      const holder = this.#heard?.holder;
      const lapsed = holder === this.#id ? undefined : holder;
      const value = { id: this.#id, term: newId() };
      const sentAt = performance.now();
      const revision = await this.#bucket.set(KEY, value, 0);
      if (revision === undefined) {
        await this.#learnHolder();
        return undefined;
      }
      const { renewMs, marginMs } = this.#timings;
      const timings = { holdsMs: ttlMs - marginMs, renewMs };
      return new Term({
        bucket: this.#bucket,
        key: KEY,
        value,
        revision,
        sentAt,
        lapsed,
        timings,
        logger: this.#logger,
      });
    } catch (error) {
      if (signal.aborted || !(error instanceof ControllerError) || error.code === 'CONTROLLER_OPTION_INVALID')
        throw error;
      if (this.#nc.isClosed()) throw error;
      this.#logger.debug({ err: error }, 'the lease cannot be asked for');
      return undefined;
    }
  }

  /** Before the first renewal is heard, the lease itself says who has it. */
  async #learnHolder(): Promise<void> {
    if (this.#heard !== undefined) return;
    const at = performance.now();
    const entry = await this.#bucket.get(KEY);
    if (entry !== undefined) this.#heard ??= { holder: entry.value.id, at };
  }

  /** Who made the bucket decided; a bucket whose values never end would never let go of a dead controller. */
  async #ttl(): Promise<number> {
    const ttlMs = await this.#bucket.ttl();
    const { renewMs, marginMs } = this.#timings;
    if (ttlMs >= renewMs + marginMs) return ttlMs;
    throw new ControllerError(
      'CONTROLLER_OPTION_INVALID',
      `Cannot elect a controller with the bucket "${this.#bucket.name}": its values hold for ${ttlMs} ms`,
      { hint: 'Remove it, and it is made anew: nats kv del nex_controller' },
    );
  }

  /** Until it may be free: it was given back, or no renewal came while one holds. */
  async #wait(signal: AbortSignal): Promise<void> {
    const spread = () => Math.random() * RETRY;
    const due = () => (this.#heard === undefined ? undefined : this.#heard.at + this.#timings.ttlMs);
    const patience = performance.now() + this.#timings.renewMs;
    do {
      const wait = Math.max(RETRY, (due() ?? patience) - performance.now()) + spread();
      await this.#wakeup.pause(wait, signal);
    } while (!signal.aborted && (due() ?? 0) > performance.now());
  }

  #hear(expected: string, data: Uint8Array): void {
    if (data.length === 0) {
      this.#heard = undefined;
      this.#wakeup.wake();
      return;
    }
    // An attempt to take it is no sign of life of whoever has it.
    if (expected === '0' || expected === '') return;
    try {
      const { id } = JSON.parse(new TextDecoder().decode(data)) as { id?: unknown };
      if (typeof id === 'string') this.#heard = { holder: id, at: performance.now() };
    } catch {
      this.#logger.debug({}, 'something else than a lease was written in its place');
    }
  }
}
