import { setImmediate as immediately } from 'node:timers/promises';
import type { MsgHdrs, NatsConnection } from '@nats-io/nats-core';
import type { Logger } from './logger.ts';
import { NexletError } from './nexlet-error.ts';

/** How much may wait for the server, in bytes. */
const CAPACITY = 16 * 1024 * 1024;
/** How much is sent before the server has confirmed it, in bytes; a single larger message goes alone. */
const BATCH = 256 * 1024;
/** What a message takes beside its payload, about, in bytes. */
const OVERHEAD = 200;

export interface Outgoing {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers?: MsgHdrs | undefined;
  /** Called when the server has the message and all that came before it, a turn of the event loop before more is sent. */
  readonly onConfirmed?: (() => void) | undefined;
}

interface Waiter {
  /** Resolved when so many messages are with the server. */
  readonly upTo: number;
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Publishes messages and keeps each until the server has confirmed it. The NATS client drops what was published while it
 * had no server: here it is published again, in its order, on the same connection when that is back or on the next one.
 *
 * What waits is sent as a batch, of which the server then confirms by the answer to a ping that it has read it. What comes
 * meanwhile goes at once as long as it fits beside the batch; the rest follows when that is known, and written down by
 * whoever wants to. So whatever ends, the connection or this process, as much as one batch is all that may be published
 * twice.
 */
export class Outbox {
  readonly #logger: Logger;
  readonly #capacity: number;
  readonly #pending: Outgoing[] = [];
  readonly #waiters = new Set<Waiter>();
  #nc: NatsConnection | undefined;
  /** Who sends batches at present, one after the other; undefined while nobody does. */
  #sender: symbol | undefined;
  /** How many of the first pending messages are on their way, and how many after them went ahead; their bytes. */
  #underWay = { batch: 0, ahead: 0, bytes: 0 };
  #bytes = 0;
  #confirmed = 0;
  #refused = 0;
  #ended = false;

  constructor({ logger, capacity = CAPACITY }: { logger: Logger; capacity?: number }) {
    this.#logger = logger;
    this.#capacity = capacity;
  }

  /** The connection of the last {@link attach}. */
  get connection(): NatsConnection | undefined {
    return this.#nc;
  }

  /** Publishes over this connection from now on, beginning with what is not confirmed yet. */
  attach(nc: NatsConnection): void {
    this.#nc = nc;
    void this.#deliver(nc);
  }

  /** Takes all of the messages or none: false when too much waits for the server already, or the outbox has ended. */
  publish(...messages: readonly Outgoing[]): boolean {
    if (this.#ended) return false;
    const size = sizeOf(messages);
    if (this.#bytes > 0 && this.#bytes + size > this.#capacity) {
      this.#refused++;
      if (this.#refused === 1)
        this.#logger.warn({ bytes: this.#bytes }, 'too much waits for the NATS server: messages are dropped');
      return false;
    }
    this.#bytes += size;
    const { batch, ahead, bytes } = this.#underWay;
    const isNext = batch > 0 && this.#pending.length === batch + ahead && bytes + size <= BATCH;
    this.#pending.push(...messages);
    if (this.#nc === undefined) return true;
    if (this.#sender === undefined) void this.#deliver(this.#nc);
    else if (isNext) {
      for (const message of messages) this.#send(this.#nc, message);
      this.#underWay = { batch, ahead: ahead + messages.length, bytes: bytes + size };
    }
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

  /** Sends batch after batch until nothing is pending, or another connection takes over. */
  async #deliver(nc: NatsConnection): Promise<void> {
    const self = Symbol('sender');
    const isCurrent = () => this.#sender === self && !this.#ended;
    this.#sender = self;
    this.#underWay = { batch: 0, ahead: 0, bytes: 0 };
    while (isCurrent() && this.#pending.length > 0 && !nc.isClosed()) {
      // What is published in the same moment goes along.
      await immediately();
      if (!isCurrent()) return;
      const { ahead } = this.#underWay;
      const batch = ahead > 0 ? this.#pending.slice(0, ahead) : this.#nextBatch();
      if (ahead === 0) for (const message of batch) this.#send(nc, message);
      this.#underWay = { batch: batch.length, ahead: 0, bytes: sizeOf(batch) };
      if (await answersPing(nc)) {
        if (isCurrent()) {
          // First: who hears of it may publish.
          this.#underWay = { ...this.#underWay, batch: 0 };
          this.#release(batch);
        }
        continue;
      }
      // All of it has to go again.
      if (isCurrent()) this.#underWay = { batch: 0, ahead: 0, bytes: 0 };
      while (!(await answersPing(nc))) if (nc.isClosed() || !isCurrent()) break;
    }
    if (this.#sender === self) {
      this.#sender = undefined;
      this.#underWay = { batch: 0, ahead: 0, bytes: 0 };
    }
  }

  #nextBatch(): readonly Outgoing[] {
    let bytes = 0;
    const end = this.#pending.findIndex((message, index) => (bytes += sizeOf([message])) > BATCH && index > 0);
    return this.#pending.slice(0, end === -1 ? undefined : end);
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

  /** Lets go of a batch that the server has. */
  #release(batch: readonly Outgoing[]): void {
    this.#pending.splice(0, batch.length);
    this.#bytes -= sizeOf(batch);
    this.#confirmed += batch.length;
    if (this.#refused > 0) {
      this.#logger.warn({ messages: this.#refused }, 'the NATS server takes messages again; some were dropped');
      this.#refused = 0;
    }
    for (const { onConfirmed } of batch) onConfirmed?.();
    for (const waiter of this.#waiters) {
      if (waiter.upTo > this.#confirmed) continue;
      this.#waiters.delete(waiter);
      waiter.done.resolve();
    }
  }
}

function sizeOf(messages: readonly Outgoing[]): number {
  return messages.reduce((bytes, { data }) => bytes + data.length + OVERHEAD, 0);
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
