import {
  jetstream as openClient,
  type JetStreamClient,
  jetstreamManager,
  type JetStreamManager,
} from '@nats-io/jetstream';
import { headers as newHeaders, type MsgHdrs, type NatsConnection } from '@nats-io/nats-core';
import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../tasks/abortable.ts';
import { isAlreadyStored, isNoMessage, isTransient, toCacheError } from './nats-errors.ts';

/** A connection and what this package needs of its JetStream. */
export interface JetStream {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
}

/** What is to be done, for the message of an error ("Cannot <action>"), and the signal that ends it. */
export interface Task {
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
}

/** A message as it is stored. */
export interface StoredMessage {
  readonly data: Uint8Array;
  readonly headers: MsgHdrs;
  readonly seq: number;
}

/** How long {@link attempt} keeps trying: long enough for a server to restart or a stream to find a leader. */
const PATIENCE_MS = 20_000;
/**
 * After which a request is sent again. A server that restarts loses what was under way without a word, so waiting long
 * helps nobody, and all that is sent may be sent twice.
 */
const TIMEOUT_MS = 3000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/** Sends nothing. */
export async function openJetStream(nc: NatsConnection): Promise<JetStream> {
  const options = { timeout: TIMEOUT_MS };
  return { nc, js: openClient(nc, options), jsm: await jetstreamManager(nc, { ...options, checkAPI: false }) };
}

/**
 * Does something that may be done again: again while NATS is not ready for it, then throws a `CacheError`.
 * Between two attempts, and during one, `signal` ends it.
 */
export async function attempt<T>(nc: NatsConnection, { action, signal }: Task, once: () => Promise<T>): Promise<T> {
  const giveUp = performance.now() + PATIENCE_MS;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    signal?.throwIfAborted();
    try {
      return await abortable(once(), signal);
    } catch (error) {
      const late = performance.now() + pause > giveUp;
      if (late || !isTransient(error) || nc.isClosed()) throw toCacheError(error, action, nc);
    }
    await abortable(delay(pause), signal);
  }
}

/**
 * Stores a message under a subject that has none.
 * @returns false when the subject has a message already, which is left as it is.
 */
export async function storeOnce(
  { nc, js }: JetStream,
  message: { subject: string; body: Uint8Array | string; headers?: Readonly<Record<string, string>> },
  task: Task,
): Promise<boolean> {
  return attempt(nc, task, async () => {
    const headers = newHeaders();
    for (const [key, value] of Object.entries(message.headers ?? {})) headers.set(key, value);
    try {
      await js.publish(message.subject, message.body, { headers, expect: { lastSubjectSequence: 0 } });
      return true;
    } catch (error) {
      if (isAlreadyStored(error)) return false;
      throw error;
    }
  });
}

/** The last message of a subject, from the replica that is nearest; when that has none, from the leader, which knows. */
export async function lastMessage(
  { nc, jsm }: JetStream,
  { stream, subject }: { stream: string; subject: string },
  task: Task,
): Promise<StoredMessage | undefined> {
  return attempt(nc, task, async () => {
    const near = await jsm.direct.getMessage(stream, { last_by_subj: subject });
    // A follower may not have yet what its leader has acknowledged.
    return near === null ? askLeader(jsm, stream, subject) : stored(near);
  });
}

/** The last message of a subject as the leader of the stream has it. */
export async function lastMessageOfLeader(
  { nc, jsm }: JetStream,
  { stream, subject }: { stream: string; subject: string },
  task: Task,
): Promise<StoredMessage | undefined> {
  return attempt(nc, task, () => askLeader(jsm, stream, subject));
}

async function askLeader(jsm: JetStreamManager, stream: string, subject: string): Promise<StoredMessage | undefined> {
  try {
    const message = await jsm.streams.getMessage(stream, { last_by_subj: subject });
    return message === null ? undefined : stored(message);
  } catch (error) {
    if (isNoMessage(error)) return undefined;
    throw error;
  }
}

function stored({ data, header, seq }: { data: Uint8Array; header: MsgHdrs; seq: number }): StoredMessage {
  return { data, headers: header, seq };
}
