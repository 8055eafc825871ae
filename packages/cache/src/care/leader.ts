import { JetStreamApiError, type StoredMsg } from '@nats-io/jetstream';
import { headers as newHeaders, type MsgHdrs } from '@nats-io/nats-core';
import { attempt, type JetStream, type StoredMessage, type Task } from '../jetstream/jetstream.ts';
import { isAlreadyStored, isNoMessage } from '../jetstream/nats-errors.ts';

/** A stored message and what it is stored under. */
export interface LeaderMessage extends StoredMessage {
  readonly subject: string;
  /** When the server stored it, in ms since 1970. */
  readonly time: number;
}

/** The messages of a stream below some subjects. */
export interface Region {
  readonly stream: string;
  readonly subjects: string;
}

/** Parts of a stream that are read at once. */
const SEGMENTS = 32;
/** What JetStream answers to the deletion of a message that there is not: that it failed, or that there is none. */
const NOT_DELETED: ReadonlySet<number> = new Set([10057, 10043]);

/**
 * A message as the leader of the stream has it. Followers may lag behind, so what decides about deletion is read here.
 * @param where - its sequence, or the subject that it is the last of.
 */
export async function leaderMessage(
  { nc, jsm }: JetStream,
  { stream, ...where }: { stream: string } & ({ seq: number; next_by_subj?: string } | { last_by_subj: string }),
  task: Task,
): Promise<LeaderMessage | undefined> {
  return attempt(nc, task, async () => {
    try {
      return read(await jsm.streams.getMessage(stream, where));
    } catch (error) {
      if (isNoMessage(error)) return undefined;
      throw error;
    }
  });
}

function read(message: StoredMsg | null): LeaderMessage | undefined {
  if (message === null) return undefined;
  const { subject, data, header, seq, time } = message;
  return { subject, data, headers: header, seq, time: time.getTime() };
}

/**
 * All messages of a region from the sequence `from` on, those last that come while it is read. One that is replaced
 * meanwhile is yielded before, after, or both times; none is overlooked.
 */
export async function* leaderMessages(
  jetstream: JetStream,
  region: Region,
  { from, ...task }: Task & { from: number },
): AsyncGenerator<LeaderMessage, void, undefined> {
  const { state } = await attempt(jetstream.nc, task, () => jetstream.jsm.streams.info(region.stream));
  const first = Math.max(from, state.first_seq);
  const length = Math.max(1, Math.ceil((state.last_seq + 1 - first) / SEGMENTS));
  const segments = [];
  for (let start = first; start <= state.last_seq; start += length) {
    segments.push(
      segment(jetstream, region, { ...task, from: start, to: Math.min(start + length, state.last_seq + 1) }),
    );
  }
  yield* interleaved(segments);
  // Replaced messages move to the end: whoever reads on to the end meets them there.
  yield* segment(jetstream, region, { ...task, from: Math.max(from, state.last_seq + 1), to: Infinity });
}

/** The messages with a sequence of at least `from` and below `to`. */
async function* segment(
  jetstream: JetStream,
  { stream, subjects }: Region,
  { from, to, ...task }: Task & { from: number; to: number },
): AsyncGenerator<LeaderMessage, void, undefined> {
  for (let seq = from; seq < to;) {
    const message = await leaderMessage(jetstream, { stream, seq, next_by_subj: subjects }, task);
    if (message === undefined || message.seq >= to) return;
    yield message;
    seq = message.seq + 1;
  }
}

/** What the generators yield, whichever is first. */
async function* interleaved<T>(sources: readonly AsyncGenerator<T, void, undefined>[]): AsyncGenerator<T> {
  const advance = async (source: AsyncGenerator<T, void, undefined>) => ({ source, result: await source.next() });
  const pending = new Map(sources.map((source) => [source, advance(source)]));
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values());
      if (result.done === true) pending.delete(source);
      else {
        pending.set(source, advance(source));
        yield result.value;
      }
    }
  } finally {
    await Promise.allSettled(pending.values());
  }
}

/**
 * Replaces the last message of a subject, which has the sequence `previous`, 0 for none.
 * @returns the sequence of the new one, or undefined when the last message was another one.
 */
export async function replaceMessage(
  { nc, js }: JetStream,
  message: { subject: string; body: Uint8Array | string; headers?: Readonly<Record<string, string>> },
  { previous, ...task }: Task & { previous: number },
): Promise<number | undefined> {
  return attempt(nc, task, async () => {
    const headers: MsgHdrs = newHeaders();
    for (const [key, value] of Object.entries(message.headers ?? {})) headers.set(key, value);
    try {
      const expect = { lastSubjectSequence: previous };
      return (await js.publish(message.subject, message.body, { headers, expect })).seq;
    } catch (error) {
      if (isAlreadyStored(error)) return undefined;
      throw error;
    }
  });
}

/**
 * Deletes the message with this sequence, and no other that may have taken its place. Its bytes are not overwritten: the
 * disk gets them back when half of their block is dead.
 * @returns whether there was one.
 */
export async function deleteMessage(
  jetstream: JetStream,
  { stream, seq }: { stream: string; seq: number },
  task: Task,
): Promise<boolean> {
  const { nc, jsm } = jetstream;
  return attempt(nc, task, async () => {
    try {
      return await jsm.streams.deleteMessage(stream, seq, false);
    } catch (error) {
      const failed = error instanceof JetStreamApiError && NOT_DELETED.has(error.code);
      if (failed && (await leaderMessage(jetstream, { stream, seq }, task)) === undefined) return false;
      throw error;
    }
  });
}
