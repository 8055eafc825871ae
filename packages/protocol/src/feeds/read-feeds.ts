import type { JsMsg } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { connectionError } from '../wire/gather.ts';
import { ANY, feedSubjects } from '../wire/subjects.ts';
import { findFeedStream, type KeptMessages } from './feed-stream.ts';
import {
  type Feed,
  feedEvent,
  type FeedEvent,
  followEvents,
  type FollowEventsOptions,
  followLogs,
  type FollowLogsOptions,
  type LogEntry,
  logEntries,
} from './live-feeds.ts';

export { FEED_STREAM } from './feed-stream.ts';

/** Which part of a feed to read. */
export interface ReadFeedOptions {
  /** Only what is not older. */
  since?: Date | undefined;
  /** Of what is kept, only so many of the newest; new ones come on top. */
  tail?: number | undefined;
  /** Go on with new entries after the kept ones. @default true */
  follow?: boolean | undefined;
}

export interface ReadLogsOptions extends FollowLogsOptions, ReadFeedOptions {}

export interface ReadEventsOptions extends FollowEventsOptions, ReadFeedOptions {}

/**
 * The logs of workloads from the oldest kept line on, then new ones, without a gap or a repetition between them. Where
 * no stream keeps them, only new ones come (with `follow`).
 *
 * @throws {ProtocolError} NEX_SUBJECT_INVALID, NEX_PERMISSION, NEX_CONNECTION_CLOSED
 */
export async function readLogs(nc: NatsConnection, options: ReadLogsOptions): Promise<Feed<LogEntry>> {
  const subject = feedSubjects.logs(options.namespace, options.workloadId ?? ANY, ANY);
  return readFeed(nc, { subject, live: () => followLogs(nc, options), item: logEntries() }, options);
}

/** Events from the oldest kept one on. As {@link readLogs}. */
export async function readEvents(nc: NatsConnection, options: ReadEventsOptions = {}): Promise<Feed<FeedEvent>> {
  const subject = feedSubjects.events(options.from ?? ANY, options.name ?? ANY);
  return readFeed(nc, { subject, live: () => followEvents(nc, options), item: feedEvent }, options);
}

interface FeedSource<T> {
  readonly subject: string;
  readonly live: () => Feed<T>;
  readonly item: (message: JsMsg, time: Date) => T | undefined;
}

async function readFeed<T>(
  nc: NatsConnection,
  { subject, live, item }: FeedSource<T>,
  { since, tail, follow = true, signal }: ReadFeedOptions & { signal?: AbortSignal | undefined },
): Promise<Feed<T>> {
  signal?.throwIfAborted();
  try {
    const stream = await findFeedStream(nc, subject);
    if (stream === undefined) return follow ? live() : nothing();
    const kept = await stream.read({ subject, since, tail }, follow);
    if (kept === undefined) return nothing();
    return keptFeed(kept, { follow, signal, subject, item });
  } catch (error) {
    throw connectionError(error, subject);
  }
}

function nothing<T>(): Feed<T> {
  return {
    async *[Symbol.asyncIterator]() {},
    async [Symbol.asyncDispose]() {},
  };
}

function keptFeed<T>(
  { messages, skip, last }: KeptMessages,
  { follow, signal, subject, item }: Omit<FeedSource<T>, 'live'> & { follow: boolean; signal: AbortSignal | undefined },
): Feed<T> {
  let closed: Promise<unknown> | undefined;
  const close = () => (closed ??= messages.close());
  const stop = () => void close();
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) stop();
  let taken = 0;
  if (!follow) void closeWhenIdle(messages, () => messages.getReceived() === taken, close);
  async function* items() {
    let before = skip;
    try {
      for await (const message of messages) {
        taken++;
        if (!follow && message.seq > last) return;
        if (before-- <= 0) {
          const entry = item(message, message.time);
          if (entry !== undefined) yield entry;
        }
        if (!follow && (message.info.pending === 0 || message.seq === last)) return;
      }
    } catch (error) {
      throw connectionError(error, subject);
    }
  }
  return {
    [Symbol.asyncIterator]: () => items(),
    async [Symbol.asyncDispose]() {
      signal?.removeEventListener('abort', stop);
      await close();
    },
  };
}

/** The server beats when it has nothing more to send: what was kept is read, or was removed meanwhile. */
async function closeWhenIdle(
  messages: KeptMessages['messages'],
  allTaken: () => boolean,
  close: () => Promise<unknown>,
): Promise<void> {
  for await (const { type } of messages.status()) {
    if (type === 'heartbeat' && allTaken()) return void close();
  }
}
