import { setTimeout as delay } from 'node:timers/promises';
import type { StreamInfo } from '@nats-io/jetstream';
import { abortable } from '../tasks/abortable.ts';
import { type ChunkId, packChunkIds } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import { attempt, type JetStream } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, DELETED_SUBJECT, MANIFEST_STREAM, NARINFO_STREAM } from '../jetstream/layout.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { deleteMessage, leaderMessage } from './leader.ts';
import { decodeRecord, storeRemoval } from './path-record.ts';

/** A message to delete: the last token of its subject, and its sequence. What has another sequence by then stays. */
export type DoomedMessage<Key extends string = string> = readonly [key: Key, seq: number];

/** What is to be deleted together. */
export interface Doomed {
  /** Narinfos by hash part, what refers to others before them. They become removed paths. */
  readonly paths: readonly DoomedMessage[];
  /** Manifests by the digits of their NAR hash. */
  readonly manifests: readonly DoomedMessage[];
  readonly chunks: readonly DoomedMessage<ChunkId>[];
}

/** What must stay. */
export interface Needed {
  readonly paths: ReadonlySet<string>;
  readonly manifests: ReadonlySet<string>;
  readonly chunks: ReadonlySet<ChunkId>;
}

/** Messages that one page of the journal may name: well below the smallest `max_payload` that a cache can have. */
export const DOOMED_AT_ONCE = 1000;
/** Deletions under way at once. */
const WINDOW = 32;
const REPLICA_POLL_MS = 50;
const REPLICA_PATIENCE_MS = 60_000;

/** Whether something that must stay is to be deleted. */
export function isDoomed({ paths, manifests, chunks }: Doomed, needed: Needed): boolean {
  return (
    paths.some(([key]) => needed.paths.has(key)) ||
    manifests.some(([key]) => needed.manifests.has(key)) ||
    chunks.some(([key]) => needed.chunks.has(key))
  );
}

/** What is left of `doomed` when everything needed stays. */
export function spare({ paths, manifests, chunks }: Doomed, needed: Needed): Doomed {
  return {
    paths: paths.filter(([key]) => !needed.paths.has(key)),
    manifests: manifests.filter(([key]) => !needed.manifests.has(key)),
    chunks: chunks.filter(([key]) => !needed.chunks.has(key)),
  };
}

/** Deletes all of it. May be repeated, also by others at the same time. */
export async function deleteItems(
  jetstream: JetStream,
  { paths, manifests, chunks }: Doomed,
  signal: AbortSignal | undefined,
): Promise<void> {
  // One after the other: a path is never listed without what it refers to.
  for (const doomed of paths) await removePath(jetstream, doomed, signal);
  if (paths.length > 0) await replicated(jetstream, NARINFO_STREAM, signal);
  await deleteAll(jetstream, { stream: MANIFEST_STREAM, messages: manifests }, signal);
  // Before they go: who sees one stored again later sees that after this.
  if (chunks.length > 0) jetstream.nc.publish(DELETED_SUBJECT, packChunkIds(chunks.map(([id]) => id)));
  await deleteAll(jetstream, { stream: CHUNK_STREAM, messages: chunks }, signal);
}

async function removePath(
  jetstream: JetStream,
  [key, seq]: DoomedMessage,
  signal: AbortSignal | undefined,
): Promise<void> {
  const task = { action: `remove the path with the hash "${key}" from the cache`, signal };
  const message = await leaderMessage(jetstream, { stream: NARINFO_STREAM, seq }, task);
  if (message === undefined) return;
  const record = decodeRecord(message);
  if (record.state === 'listed') await storeRemoval(jetstream, { ...message, ...record }, { ...task, previous: seq });
  else if (record.state === 'invalid') await deleteMessage(jetstream, { stream: NARINFO_STREAM, seq }, task);
}

async function deleteAll(
  jetstream: JetStream,
  { stream, messages }: { stream: string; messages: readonly DoomedMessage[] },
  signal: AbortSignal | undefined,
): Promise<void> {
  if (messages.length === 0) return;
  const remove = ([key, seq]: DoomedMessage, inner: AbortSignal) =>
    deleteMessage(jetstream, { stream, seq }, { action: `delete "${key}" from the cache`, signal: inner });
  const deletions = mapOrdered(messages, remove, { window: WINDOW, signal });
  while ((await deletions.next()).done !== true);
  await replicated(jetstream, stream, signal);
}

/**
 * Waits until every replica that answers reads has what its leader has: until then a commit could still read from one what
 * is deleted.
 */
async function replicated({ nc, jsm }: JetStream, stream: string, signal: AbortSignal | undefined): Promise<void> {
  const giveUp = performance.now() + REPLICA_PATIENCE_MS;
  const task = { action: `ask for the replicas of the stream "${stream}"`, signal };
  for (;;) {
    const info = await attempt(nc, task, () => jsm.streams.info(stream));
    const behind = lagging(info);
    if (behind === undefined) return;
    if (performance.now() > giveUp) {
      throw new CacheError('CACHE_UNAVAILABLE', `Cannot delete from the cache: replica "${behind}" lags behind`, {
        hint: `See: nats stream info ${stream}; then collect again`,
      });
    }
    await abortable(delay(REPLICA_POLL_MS), signal);
  }
}

function lagging({ cluster }: StreamInfo): string | undefined {
  const replicas = cluster?.replicas ?? [];
  return replicas.find(({ current, offline, lag }) => !(offline ?? false) && (!current || (lag ?? 0) > 0))?.name;
}
