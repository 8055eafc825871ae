import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/nats-core';
import { connectionError } from '../wire/gather.ts';
import { LOG_ID_HEADER, LogRepetitions } from './log-ids.ts';
import { ANY, feedSubjects, type LogStream, lastToken, subjectScope } from '../wire/subjects.ts';

/** A running subscription to a feed. Iterate it once; it ends when disposed, aborted or when the connection closes. */
export interface Feed<T> extends AsyncIterable<T>, AsyncDisposable {}

/** One piece of a workload's output: usually a line, without its end; up to 32 KiB of any bytes from Go nexlets. */
export interface LogEntry {
  readonly namespace: string;
  readonly workloadId: string;
  readonly stream: LogStream;
  readonly data: Uint8Array;
  /** When the stream took it up; undefined when it did not come from there. */
  readonly time: Date | undefined;
}

/** One event: `name` is e.g. `WORKLOADSTARTED`, `from` the namespace, node or nexlet it is about. */
export interface FeedEvent {
  readonly from: string;
  readonly name: string;
  /** Parsed, else its text. `knownEvent` gives it its type. */
  readonly body: unknown;
  /** When the stream took it up; undefined when it did not come from there. */
  readonly time: Date | undefined;
}

export interface FollowLogsOptions {
  namespace: string;
  /** Default: every workload of the namespace. */
  workloadId?: string;
  signal?: AbortSignal;
}

/**
 * Follows the logs of workloads from now on, each line once. The subscription exists when this returns.
 *
 * @throws {ProtocolError} NEX_SUBJECT_INVALID; while iterating NEX_PERMISSION
 */
export function followLogs(nc: NatsConnection, { namespace, workloadId, signal }: FollowLogsOptions): Feed<LogEntry> {
  const subject = feedSubjects.logs(namespace, workloadId ?? ANY, ANY);
  return follow(nc, subject, signal, logEntries());
}

/** A message of a feed, live or kept. */
export interface FeedMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers?: MsgHdrs | undefined;
}

/** Reads log messages one after the other; of one that was published again nothing comes out. */
export function logEntries(): (message: FeedMessage, time?: Date) => LogEntry | undefined {
  const repetitions = new LogRepetitions();
  return (message, time) => {
    const id = message.headers?.get(LOG_ID_HEADER);
    return repetitions.isRepeated(id) ? undefined : logEntry(message, time);
  };
}

/** What a message on a log subject says; undefined when it is none. */
function logEntry({ subject, data }: FeedMessage, time?: Date): LogEntry | undefined {
  const stream = lastToken(subject);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  return { namespace: subjectScope(subject), workloadId: subject.split('.')[4] ?? '', stream, data, time };
}

/** What a message on an event subject says. */
export function feedEvent({ subject, data }: FeedMessage, time?: Date): FeedEvent {
  return { from: subjectScope(subject), name: lastToken(subject), body: jsonOrText(data), time };
}

export interface FollowEventsOptions {
  /** Namespace, node id or nexlet id. Default: all. */
  from?: string;
  /** Default: all. */
  name?: string;
  signal?: AbortSignal;
}

/** Follows events from now on. The body of an event that is not JSON is its text. Errors as {@link followLogs}. */
export function followEvents(nc: NatsConnection, { from, name, signal }: FollowEventsOptions = {}): Feed<FeedEvent> {
  return follow(nc, feedSubjects.events(from ?? ANY, name ?? ANY), signal, (msg) => feedEvent(msg));
}

function follow<T>(
  nc: NatsConnection,
  subject: string,
  signal: AbortSignal | undefined,
  read: (msg: Msg) => T | undefined,
): Feed<T> {
  signal?.throwIfAborted();
  const subscription = nc.subscribe(subject);
  const stop = () => subscription.unsubscribe();
  signal?.addEventListener('abort', stop, { once: true });
  async function* items() {
    try {
      for await (const msg of subscription) {
        const item = read(msg);
        if (item !== undefined) yield item;
      }
    } catch (error) {
      throw connectionError(error, subject);
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }
  return {
    [Symbol.asyncIterator]: () => items(),
    async [Symbol.asyncDispose]() {
      signal?.removeEventListener('abort', stop);
      if (!subscription.isClosed()) stop();
    },
  };
}

function jsonOrText(data: Uint8Array): unknown {
  const text = new TextDecoder().decode(data);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
