import type { MsgHdrs, NatsConnection } from '@nats-io/nats-core';
import type { Logger } from './logger.ts';
import { NexletError } from './nexlet-error.ts';

/** How much may wait for the server, in bytes. */
const CAPACITY = 16 * 1024 * 1024;
/** What a message takes beside its payload, about, in bytes. */
const OVERHEAD = 200;

interface Outgoing {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: MsgHdrs | undefined;
}

interface Waiter {
  /** Resolved when so many messages are with the server. */
  readonly upTo: number;
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Publishes messages and keeps each until the server has confirmed it. The NATS client drops what was published while it
 * had no server: here it is published again, in its order, on the same connection when that is back or on the next one.
 * A message whose confirmation was lost is published twice.
 */
export class Outbox {
  readonly #logger: Logger;
  readonly #capacity: number;
  readonly #pending: Outgoing[] = [];
  readonly #waiters = new Set<Waiter>();
  #nc: NatsConnection | undefined;
  /** Whether everything pending was given to the connection, which may have lost it since. */
  #sending = false;
  #bytes = 0;
  #confirmed = 0;
  #refused = 0;
  #ended = false;

  constructor({ logger, capacity = CAPACITY }: { logger: Logger; capacity?: number }) {
    this.#logger = logger;
    this.#capacity = capacity;
  }

  /** Publishes over this connection from now on, beginning with what is not confirmed yet. */
  attach(nc: NatsConnection): void {
    this.#nc = nc;
    void this.#confirm(nc);
  }

  /** False when the message is not taken: too much waits for the server already, or the outbox has ended. */
  publish(subject: string, data: Uint8Array, headers?: MsgHdrs): boolean {
    if (this.#ended) return false;
    const size = data.length + OVERHEAD;
    if (this.#bytes > 0 && this.#bytes + size > this.#capacity) {
      this.#refused++;
      if (this.#refused === 1)
        this.#logger.warn({ bytes: this.#bytes }, 'too much waits for the NATS server: messages are dropped');
      return false;
    }
    this.#bytes += size;
    const message = { subject, data, headers };
    this.#pending.push(message);
    if (this.#nc !== undefined && this.#pending.length === 1) void this.#confirm(this.#nc);
    else if (this.#nc !== undefined && this.#sending) this.#send(this.#nc, message);
    return true;
  }

  /**
   * Resolves when the server has all that was published before the call, however long it takes to come back.
   *
   * @throws {NexletError} NEXLET_FEED_CLOSED when the outbox ends before
   */
  flushed(): Promise<void> {
    if (this.#pending.length === 0) return Promise.resolve();
    if (this.#ended) return Promise.reject(closed());
    const done = Promise.withResolvers<void>();
    this.#waiters.add({ upTo: this.#confirmed + this.#pending.length, done });
    return done.promise;
  }

  /** Takes nothing more, and gives up what is not confirmed. */
  end(): void {
    this.#ended = true;
    for (const { done } of this.#waiters) done.reject(closed());
    this.#waiters.clear();
  }

  #send(nc: NatsConnection, { subject, data, headers }: Outgoing): void {
    try {
      nc.publish(subject, data, headers === undefined ? {} : { headers });
    } catch (error) {
      // A closed connection is what confirming notices; else the server would not take the message at any time.
      if (!nc.isClosed() && !nc.isDraining())
        this.#logger.warn({ err: error, subject }, 'a message cannot be published');
    }
  }

  /** Gives all that is pending to the connection, then has the server confirm it, until there is nothing left. */
  async #confirm(nc: NatsConnection): Promise<void> {
    const isCurrent = () => this.#nc === nc && !this.#ended;
    this.#sending = false;
    while (isCurrent() && this.#pending.length > 0) {
      if (!this.#sending) for (const message of this.#pending) this.#send(nc, message);
      this.#sending = true;
      const count = this.#pending.length;
      if (await answersPing(nc)) {
        if (isCurrent()) this.#release(count);
        continue;
      }
      if (!isCurrent()) return;
      this.#sending = false;
      while (!(await answersPing(nc))) if (nc.isClosed() || !isCurrent()) return;
    }
  }

  #release(count: number): void {
    for (const { data } of this.#pending.splice(0, count)) this.#bytes -= data.length + OVERHEAD;
    this.#confirmed += count;
    if (this.#refused > 0) {
      this.#logger.warn({ messages: this.#refused }, 'the NATS server takes messages again; some were dropped');
      this.#refused = 0;
    }
    for (const waiter of this.#waiters) {
      if (waiter.upTo > this.#confirmed) continue;
      this.#waiters.delete(waiter);
      waiter.done.resolve();
    }
  }
}

/**
 * Whether the server answers a ping, which it does after it has read all that was sent before. False when the connection
 * was lost meanwhile: the client fails pings at each attempt to connect, so the first one to succeed says that it is back.
 */
async function answersPing(nc: NatsConnection): Promise<boolean> {
  try {
    await nc.flush();
    return true;
  } catch {
    return false;
  }
}

function closed(): NexletError {
  const message = 'Cannot say that the NATS server has what was published: the nexlet ends before it does';
  return new NexletError('NEXLET_FEED_CLOSED', message, { hint: 'Publish it again when the nexlet runs again' });
}
