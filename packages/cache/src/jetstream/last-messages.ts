import { answersBatches, getBatch, getEach, type LastOfEach, type SubjectMessage } from './direct-get.ts';
import { attempt, type JetStream, lastMessageOfLeader, type StoredMessage, type Task } from './jetstream.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';

/** Subjects of one request; a server answers for at most 1024. */
const BATCH = 512;
/** Requests to the leader that are under way at once. */
const LEADER_WINDOW = 32;

/**
 * The last message of each subject, by subject; none of a subject that has no message. As with `lastMessage`, what the
 * nearest replica does not have is asked of the leader, which knows.
 */
export async function lastMessages(
  jetstream: JetStream,
  { stream, subjects }: LastOfEach,
  task: Task,
): Promise<Map<string, StoredMessage>> {
  const found = new Map<string, StoredMessage>();
  const wanted = [...new Set(subjects)];
  const missing = () => wanted.filter((subject) => !found.has(subject));
  const add = ({ subject, message }: SubjectMessage) => found.set(subject, message);
  for (let at = 0; at < wanted.length; at += BATCH) {
    const batch = { stream, subjects: wanted.slice(at, at + BATCH) };
    for await (const message of nearest(jetstream, batch, task)) add(message);
  }
  const ask = async (subject: string, signal: AbortSignal) => {
    const message = await lastMessageOfLeader(jetstream, { stream, subject }, { ...task, signal });
    return message === undefined ? undefined : { subject, message };
  };
  const { signal } = task;
  for await (const message of mapOrdered(missing(), ask, { window: LEADER_WINDOW, signal })) {
    if (message !== undefined) add(message);
  }
  return found;
}

/** What the nearest replica has, in the way that costs least on its server. */
async function* nearest(
  jetstream: JetStream,
  { stream, subjects }: LastOfEach,
  task: Task,
): AsyncGenerator<SubjectMessage> {
  const { nc } = jetstream;
  if (subjects.length < 2 || !answersBatches(nc)) {
    yield* await attempt(nc, task, () => getEach(jetstream, { stream, subjects }));
    return;
  }
  // An answer may be cut short, and servers count differently what they leave out: one without messages is the last one.
  for (let rest = new Set(subjects); rest.size > 0;) {
    const came = await attempt(nc, task, () => getBatch(jetstream, { stream, subjects: [...rest] }));
    yield* came;
    if (came.length === 0) return;
    rest = rest.difference(new Set(came.map(({ subject }) => subject)));
  }
}
