import {
  type ConsumerInfo,
  type ConsumerMessages,
  DeliverPolicy,
  AckPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  jetstream,
  jetstreamManager,
  type JetStreamManager,
  type StreamInfo,
} from '@nats-io/jetstream';
import { nanos, type NatsConnection } from '@nats-io/nats-core';
import { connectionError } from '../wire/gather.ts';
import { newId } from '../wire/ids.ts';

/** The JetStream stream that keeps logs and events, where somebody has made it. */
export const FEED_STREAM = 'NEX_FEED';

/** A tail may read this many messages too many rather than look for its exact start. */
const TAIL_SLACK = 1_000;
/** How many messages are under way at a time. */
const BATCH = 500;
/** A consumer that only counts is forgotten by the server after this time, in milliseconds, if it cannot be deleted. */
const PROBE_LIFETIME = 5_000;
/**
 * How often the server says that it has nothing more, in milliseconds: while history is read, and while it is followed.
 * After a restart of the server the client library waits for twice as long before it tries again.
 */
const READ_HEARTBEAT = 500;
const FOLLOW_HEARTBEAT = 1_000;

/** Which kept messages of a subject to read. */
export interface Selection {
  readonly subject: string;
  /** Only what is not older. */
  readonly since?: Date | undefined;
  /** Only the last ones, so many. */
  readonly tail?: number | undefined;
}

/** Kept messages in their order, and new ones after them. */
export interface KeptMessages {
  readonly messages: ConsumerMessages;
  /** How many of them come before those that were asked for. */
  readonly skip: number;
  /** The last message that was kept when the reading began, by its place in the stream. */
  readonly last: number;
}

/**
 * The stream of feeds, when there is one that keeps everything on `subject`. Undefined too where JetStream is off.
 *
 * @throws {ProtocolError} NEX_PERMISSION, NEX_CONNECTION_CLOSED
 */
export async function findFeedStream(nc: NatsConnection, subject: string): Promise<FeedStream | undefined> {
  try {
    const manager = await jetstreamManager(nc);
    const info = await manager.streams.info(FEED_STREAM);
    return info.config.subjects.some((pattern) => covers(pattern, subject))
      ? new FeedStream(nc, manager, info)
      : undefined;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return undefined;
    // The client library has one error for "off" and "does not answer", and does not export its class.
    if (error instanceof Error && error.name === 'JetStreamNotEnabled') return undefined;
    throw connectionError(error, subject);
  }
}

/**
 * Finds where to start reading, then reads with an ordered consumer that starts at a place of the stream: the client
 * library can take up such a one after a loss of the connection, without a gap and without repeating anything. One
 * that starts at a time, or at "now", it cannot.
 */
export class FeedStream {
  readonly #nc: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #first: number;
  readonly #last: number;
  readonly #lastTime: number;

  constructor(nc: NatsConnection, manager: JetStreamManager, { state }: StreamInfo) {
    this.#nc = nc;
    this.#manager = manager;
    this.#first = state.first_seq;
    this.#last = state.last_seq;
    this.#lastTime = Date.parse(state.last_ts);
  }

  /** Undefined when nothing is kept and nothing new is to come (`follow`). */
  async read(selection: Selection, follow: boolean): Promise<KeptMessages | undefined> {
    const { subject, tail } = selection;
    const { start, skip } = tail === 0 ? { start: this.#last + 1, skip: 0 } : await this.#start(selection);
    const consumer = await jetstream(this.#nc).consumers.get(FEED_STREAM, {
      filter_subjects: subject,
      opt_start_seq: Math.max(1, start),
    });
    if (!follow && (await consumer.info(true)).num_pending === 0) return undefined;
    const idle = follow ? FOLLOW_HEARTBEAT : READ_HEARTBEAT;
    const messages = await consumer.consume({ max_messages: BATCH, idle_heartbeat: idle, expires: 2 * idle });
    return { messages, skip, last: this.#last };
  }

  async #start({ subject, since, tail }: Selection): Promise<{ start: number; skip: number }> {
    // Nothing that is kept is as young.
    if (since !== undefined && since.getTime() > this.#lastTime) return { start: this.#last + 1, skip: 0 };
    const from =
      since === undefined
        ? { start: this.#first, pending: undefined }
        : await this.#probe(subject, { deliver_policy: DeliverPolicy.StartTime, opt_start_time: since.toISOString() });
    if (tail === undefined) return { start: from.start, skip: 0 };
    let { start, pending } = { start: from.start, pending: from.pending ?? (await this.#pending(subject, from.start)) };
    let end = this.#last + 1;
    // Halves the range until what is left to read is the tail and not much more.
    while (pending > tail + TAIL_SLACK && end - start > 1) {
      const middle = Math.floor((start + end) / 2);
      const left = await this.#pending(subject, middle);
      if (left >= tail) ({ start, pending } = { start: middle, pending: left });
      else end = middle;
    }
    return { start, skip: Math.max(0, pending - tail) };
  }

  /** How many messages of `subject` there are from a place of the stream on. */
  async #pending(subject: string, start: number): Promise<number> {
    const policy = { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, start) };
    return (await this.#probe(subject, policy)).pending;
  }

  /** Asks the server by way of a consumer that is never read from. */
  async #probe(
    subject: string,
    policy: { deliver_policy: DeliverPolicy; opt_start_time?: string; opt_start_seq?: number },
  ): Promise<{ start: number; pending: number }> {
    const name = newId();
    const info: ConsumerInfo = await this.#manager.consumers.add(FEED_STREAM, {
      name,
      filter_subject: subject,
      ack_policy: AckPolicy.None,
      inactive_threshold: nanos(PROBE_LIFETIME),
      mem_storage: true,
      num_replicas: 1,
      ...policy,
    });
    await this.#manager.consumers.delete(FEED_STREAM, name);
    return { start: info.delivered.stream_seq + 1, pending: info.num_pending };
  }
}

/** Whether every subject that `filter` matches is matched by `pattern`. */
export function covers(pattern: string, filter: string): boolean {
  const wide = pattern.split('.');
  const narrow = filter.split('.');
  if (wide.at(-1) === '>') return narrow.length >= wide.length && coversTokens(wide.slice(0, -1), narrow);
  return narrow.length === wide.length && narrow.at(-1) !== '>' && coversTokens(wide, narrow);
}

function coversTokens(wide: readonly string[], narrow: readonly string[]): boolean {
  return wide.every((token, index) => token === narrow[index] || (token === '*' && narrow[index] !== '>'));
}
