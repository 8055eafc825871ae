import { type JsMsg, JetStreamApiCodes, JetStreamApiError, jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { type Feed, type FollowLogsOptions, followLogs, type LogEntry, logEntry } from './feeds.ts';
import { connectionError } from './gather.ts';
import { ANY, feedSubjects } from './subjects.ts';

/** The JetStream stream that keeps logs and events, where somebody has made it. */
export const FEED_STREAM = 'NEX_FEED';

export interface ReadLogsOptions extends FollowLogsOptions {
  /** Go on with new lines after the kept ones. @default true */
  follow?: boolean;
}

/**
 * The logs of workloads from the oldest kept line on. Where no stream keeps them, only new ones come (with `follow`).
 *
 * @throws {ProtocolError} NEX_SUBJECT_INVALID, NEX_PERMISSION, NEX_CONNECTION_CLOSED
 */
export async function readLogs(nc: NatsConnection, options: ReadLogsOptions): Promise<Feed<LogEntry>> {
  const { namespace, workloadId, follow = true, signal } = options;
  const subject = feedSubjects.logs(namespace, workloadId ?? ANY, ANY);
  signal?.throwIfAborted();
  try {
    if (!(await isKept(nc))) return follow ? followLogs(nc, options) : NOTHING;
    const consumer = await jetstream(nc).consumers.get(FEED_STREAM, { filter_subjects: subject });
    if (!follow && (await consumer.info()).num_pending === 0) return NOTHING;
    const messages = await consumer.consume();
    return keptFeed(messages, { follow, signal, subject });
  } catch (error) {
    throw connectionError(error, subject);
  }
}

const NOTHING: Feed<LogEntry> = {
  async *[Symbol.asyncIterator]() {},
  async [Symbol.asyncDispose]() {},
};

/** Whether there is a stream of logs. False too where JetStream is off. */
async function isKept(nc: NatsConnection): Promise<boolean> {
  try {
    await (await jetstreamManager(nc)).streams.info(FEED_STREAM);
    return true;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return false;
    // The client library has one error for "off" and "does not answer", and does not export its class.
    if (error instanceof Error && error.name === 'JetStreamNotEnabled') return false;
    throw error;
  }
}

interface KeptMessages extends AsyncIterable<JsMsg> {
  close(): Promise<unknown>;
}

function keptFeed(
  messages: KeptMessages,
  { follow, signal, subject }: { follow: boolean; signal: AbortSignal | undefined; subject: string },
): Feed<LogEntry> {
  let closed: Promise<unknown> | undefined;
  const close = () => (closed ??= messages.close());
  const stop = () => void close();
  signal?.addEventListener('abort', stop, { once: true });
  async function* items() {
    try {
      for await (const message of messages) {
        const entry = logEntry(message.subject, message.data);
        if (entry !== undefined) yield entry;
        if (!follow && message.info.pending === 0) return;
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
