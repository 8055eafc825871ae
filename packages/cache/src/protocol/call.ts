import { type Msg, type MsgHdrs, NoRespondersError, TimeoutError } from '@nats-io/nats-core';
import { ServiceError } from '@nats-io/services';
import { abortable } from '../tasks/abortable.ts';
import type { WireError } from '../service/answer.ts';
import { CacheError, isCacheErrorCode } from '../errors.ts';
import { attempt, type JetStream, type Task } from '../jetstream/jetstream.ts';
import { isNoResponders, serverName } from '../jetstream/nats-errors.ts';
import { IDLE_TIMEOUT_MS, PART_HEADER } from './protocol.ts';

/** A question to the cache service. */
export interface Question {
  readonly subject: string;
  readonly body?: Uint8Array | string;
}

/**
 * Asks the cache service, again while none answers, and returns its whole answer.
 * @throws {@link CacheError} as the service threw it; `CACHE_UNAVAILABLE` when none answers.
 */
export async function call({ nc }: Pick<JetStream, 'nc'>, question: Question, task: Task): Promise<Buffer> {
  return attempt(nc, task, () => callOnce({ nc }, question, task.signal));
}

/** {@link call}, but gives up at the first failure, with the error of NATS. */
export async function callOnce(
  { nc }: Pick<JetStream, 'nc'>,
  { subject, body }: Question,
  signal?: AbortSignal,
): Promise<Buffer> {
  // "stall": `maxWait` bounds the wait for the first message, `stall` the one for each further message.
  const options = { strategy: 'stall', maxWait: IDLE_TIMEOUT_MS, stall: IDLE_TIMEOUT_MS } as const;
  const messages = (await nc.requestMany(subject, body, options))[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [];
  for (;;) {
    // When this is aborted the request ends by itself, at the latest after `stall`.
    const next = await abortable(messages.next(), signal);
    if (next.done === true) throw new TimeoutError();
    parts.push(next.value.data);
    const failure = failureOf(next.value);
    const count = lastOf(next.value.headers);
    if (failure === undefined && count === undefined) continue;
    await messages.return?.();
    if (failure !== undefined) throw failure;
    if (count === parts.length) return Buffer.concat(parts);
    const came = `${parts.length} of ${count} parts came`;
    throw new CacheError('CACHE_PROTOCOL', `Cannot use an answer on "${subject}": ${came}`);
  }
}

/** What to throw when a first question finds no service: it says what to start. */
export function noService(error: unknown, { nc }: Pick<JetStream, 'nc'>): unknown {
  if (!isNoResponders(error) && !(error instanceof TimeoutError)) return error;
  return new CacheError('CACHE_UNAVAILABLE', `Cannot open the cache: no cache service answers on ${serverName(nc)}`, {
    cause: error,
    hint: 'Start a node (nex node up), which brings one, or use the NATS context of an account that has one',
  });
}

function lastOf(headers: MsgHdrs | undefined): number | undefined {
  const [word, count] = (headers?.get(PART_HEADER) ?? '').split(' ');
  return word === 'last' ? Number(count) : undefined;
}

function failureOf(message: Msg): Error | undefined {
  if (message.data.length === 0 && message.headers?.code === 503) return new NoRespondersError(message.subject);
  const failure = ServiceError.toServiceError(message);
  if (failure === null) return undefined;
  const { code, message: text, ...options } = readError(message) ?? { code: '', message: failure.message };
  // A service that stops, or has lost its JetStream: another one, or the same one later, does answer.
  const error = new CacheError(isCacheErrorCode(code) ? code : 'CACHE_SERVICE_FAILED', text, {
    ...options,
    cause: failure,
  });
  return code === 'CACHE_UNAVAILABLE' ? new NoRespondersError(message.subject, { cause: error }) : error;
}

function readError(message: Msg): WireError | undefined {
  try {
    return message.json<WireError>();
  } catch (error) {
    // An answer of the service framework itself has no body; its header says it all.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
