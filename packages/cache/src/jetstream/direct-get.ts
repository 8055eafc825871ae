import { createInbox, type Msg, type NatsConnection, NoRespondersError, TimeoutError } from '@nats-io/nats-core';
import type { NatsConnectionImpl } from '@nats-io/nats-core/internal';
import type { JetStream, StoredMessage } from './jetstream.ts';

/** A stored message and its subject. */
export interface SubjectMessage {
  readonly subject: string;
  readonly message: StoredMessage;
}

/** What is asked: the last message of each of these subjects. */
export interface LastOfEach {
  readonly stream: string;
  readonly subjects: readonly string[];
}

/** Longest silence within an answer; what was under way in a server that restarts does not come any more. */
const SILENCE_MS = 3000;
/** Requests for one message each that are under way at once. */
const WINDOW = 64;
/** After about so many bytes the server ends an answer for several subjects. */
const BATCH_BYTES = 8 << 20;

/** The API level of nats-server 2.11, the first that answers for several subjects at once. */
const BATCH_API_LEVEL = 1;
const BATCH_VERSION = [2, 11] as const;

/** Status of an answer when nobody listens, and of one that there is no message, in the numbers of HTTP. */
const NO_RESPONDERS = 503;
const NO_MESSAGE = 404;

/**
 * Whether the server that the connection leads to answers for several subjects at once. Servers tell their API level since
 * 2.11; the version is for those between that keep it to themselves.
 */
export function answersBatches({ info }: Pick<NatsConnection, 'info'>): boolean {
  const { api_lvl: level, version = '' } = (info ?? {}) as { api_lvl?: unknown; version?: string };
  if (typeof level === 'number') return level >= BATCH_API_LEVEL;
  const [, major = 0, minor = 0] = (/^v?(\d+)\.(\d+)\./.exec(version) ?? []).map(Number);
  return major > BATCH_VERSION[0] || (major === BATCH_VERSION[0] && minor >= BATCH_VERSION[1]);
}

/**
 * Asks the nearest replica in one request, for up to 1024 subjects. What comes is perhaps not all that there is: the server
 * ends an answer that has become large, or when a message is deleted under it.
 */
export async function getBatch({ nc, js }: JetStream, { stream, subjects }: LastOfEach): Promise<SubjectMessage[]> {
  const body = JSON.stringify({ multi_last: subjects, max_bytes: BATCH_BYTES });
  const options = { strategy: 'stall', maxWait: SILENCE_MS, stall: SILENCE_MS } as const;
  const came: SubjectMessage[] = [];
  for await (const answer of await nc.requestMany(`${js.apiPrefix}.DIRECT.GET.${stream}`, body, options)) {
    const status = answer.headers?.code ?? 0;
    if (status === NO_RESPONDERS) throw new NoRespondersError(answer.subject);
    // The end of the answer; or that there is nothing, or not any more; or, from a server before 2.11 to which the request
    // was passed on, that it sees no question. Whatever did not come is asked for in another way.
    if (status !== 0) return came;
    came.push(read(answer));
  }
  throw new TimeoutError();
}

/**
 * Asks the nearest replica in a request for each subject. All answers come to one subscription: the client library's own
 * requests cost several times as much, most of it for errors that are made beforehand.
 */
export async function getEach({ nc, js }: JetStream, { stream, subjects }: LastOfEach): Promise<SubjectMessage[]> {
  const inbox = createInbox((nc as NatsConnectionImpl).options.inboxPrefix);
  const { promise, resolve, reject } = Promise.withResolvers<SubjectMessage[]>();
  const came: SubjectMessage[] = [];
  const waiting = subjects.values();
  let open = 0;
  const ask = () => {
    const next = waiting.next();
    if (next.done === true) return;
    open++;
    nc.publish(`${js.apiPrefix}.DIRECT.GET.${stream}.${next.value}`, undefined, { reply: inbox });
  };
  const silence = setTimeout(() => reject(new TimeoutError()), SILENCE_MS);
  const subscription = nc.subscribe(inbox, {
    callback: (error, answer) => {
      if (error !== null) return reject(error);
      silence.refresh();
      open--;
      const status = answer.headers?.code ?? 0;
      if (status === NO_RESPONDERS) return reject(new NoRespondersError(answer.subject));
      if (status === 0) came.push(read(answer));
      else if (status !== NO_MESSAGE) return reject(new TimeoutError());
      try {
        ask();
      } catch (reason) {
        // The connection is closed.
        return reject(reason);
      }
      if (open === 0) resolve(came);
    },
  });
  try {
    while (open < Math.min(WINDOW, subjects.length)) ask();
    if (open === 0) resolve(came);
    return await promise;
  } finally {
    clearTimeout(silence);
    subscription.unsubscribe();
  }
}

function read({ headers, data }: Msg): SubjectMessage {
  if (headers === undefined) throw new TypeError('a message out of JetStream has headers');
  const message = { data, headers, seq: Number(headers.get('Nats-Sequence')) };
  return { subject: headers.get('Nats-Subject'), message };
}
