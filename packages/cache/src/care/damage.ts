import type { StorePath } from '@nex-nix/nix';
import { type ChunkId, chunkIdOf, isChunkId, packChunkIds } from '../chunks/chunk-id.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { decodeEntry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import { MAX_CHUNK_SIZE } from '../chunks/fastcdc.ts';
import { attempt, type JetStream, lastMessage, type StoredMessage, type Task } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, chunkSubject, CODEC_HEADER, DELETED_SUBJECT, LOST_SUBJECT } from '../jetstream/layout.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { decompress } from '../chunks/zstd.ts';
import { deleteMessage, leaderMessage } from './leader.ts';

/** A chunk that is not what it should be. One that was corrupt has been deleted, so that it can be stored again. */
export interface DamagedChunk {
  readonly chunk: ChunkId;
  readonly kind: 'missing' | 'corrupt';
}

/** What `nixcx.lost` announces: whoever has one of the paths can bring the chunk back. */
export interface LostChunk {
  readonly chunk: ChunkId;
  readonly paths: readonly StorePath[];
}

/** Chunk ids that one request may ask to be checked. */
export const CHECKS_PER_REQUEST = 256;
/** Chunks read at once. */
const WINDOW = 8;

type Context = Pick<ServiceContext, 'jetstream' | 'index' | 'presence'>;

/** Reads chunks, and deletes those whose content does not have their name. Nobody but the bytes themselves is believed. */
export async function checkChunks(
  context: Context,
  chunks: readonly ChunkId[],
  signal: AbortSignal,
): Promise<DamagedChunk[]> {
  const damaged: DamagedChunk[] = [];
  const check = async (chunk: ChunkId, inner: AbortSignal) => ({
    chunk,
    kind: await checkChunk(context, chunk, inner),
  });
  for await (const { chunk, kind } of mapOrdered(chunks, check, { window: WINDOW, signal })) {
    if (kind !== 'whole') damaged.push({ chunk, kind });
  }
  return damaged;
}

async function checkChunk(
  { jetstream, presence }: Context,
  chunk: ChunkId,
  signal: AbortSignal,
): Promise<DamagedChunk['kind'] | 'whole'> {
  const task = { action: `check chunk "${chunk}"`, signal };
  const message = await lastMessage(jetstream, { stream: CHUNK_STREAM, subject: chunkSubject(chunk) }, task);
  if (message !== undefined && (await isChunk(message, chunk))) {
    presence.add(chunk);
    return 'whole';
  }
  presence.delete(chunk);
  jetstream.nc.publish(DELETED_SUBJECT, packChunkIds([chunk]));
  if (message === undefined) return (await passUnreadable(jetstream, chunk, task)) ? 'corrupt' : 'missing';
  await deleteMessage(jetstream, { stream: CHUNK_STREAM, seq: message.seq }, task);
  return 'corrupt';
}

/**
 * Makes room beside what JetStream has under the name of a chunk and cannot read, since its own checksum is wrong: it neither
 * deletes nor purges such a message, and would refuse another one. That there is one chunk of a name at most is what storing
 * them by compare-and-set sees to.
 *
 * The limit stays raised: were it lowered, JetStream would take away what it can, which is the chunk that was stored anew.
 * @returns whether there is such a message.
 */
async function passUnreadable(jetstream: JetStream, chunk: ChunkId, task: Task): Promise<boolean> {
  const { nc, jsm } = jetstream;
  const subject = chunkSubject(chunk);
  const { state, config } = await attempt(nc, task, () => jsm.streams.info(CHUNK_STREAM, { subjects_filter: subject }));
  const count = state.subjects?.[subject] ?? 0;
  if (
    count === 0 ||
    (await leaderMessage(jetstream, { stream: CHUNK_STREAM, last_by_subj: subject }, task)) !== undefined
  ) {
    return false;
  }
  if (config.max_msgs_per_subject <= count) {
    await attempt(nc, task, () => jsm.streams.update(CHUNK_STREAM, { max_msgs_per_subject: count + 1 }));
  }
  return true;
}

async function isChunk({ data, headers }: StoredMessage, chunk: ChunkId): Promise<boolean> {
  const codec = headers.get(CODEC_HEADER);
  if (codec === 'raw') return chunkIdOf(data) === chunk;
  if (codec !== 'zstd') return false;
  try {
    return chunkIdOf(await decompress(data, MAX_CHUNK_SIZE)) === chunk;
  } catch (error) {
    // Of node:zlib: what cannot be decompressed, or not into a chunk.
    if (error instanceof Error && 'code' in error) return false;
    throw error;
  }
}

/** Announces chunks that are lost, if `path` is listed and has them. */
export async function announceLost(
  { jetstream, index }: Context,
  { damaged, path }: { damaged: readonly DamagedChunk[]; path: StorePath },
  signal: AbortSignal,
): Promise<void> {
  const found = await index.entry(path, signal);
  if (found === undefined) return;
  const chunks = new Set(decodeEntry(found.entry, path).manifest.chunks.map(({ id }) => id));
  for (const { chunk } of damaged) {
    const lost: LostChunk = { chunk, paths: [path] };
    if (chunks.has(chunk)) jetstream.nc.publish(LOST_SUBJECT, JSON.stringify(lost));
  }
}

/** Chunk ids as a request names them. */
export function readChunkIds(value: unknown): ChunkId[] {
  const wrong = new CacheError('CACHE_PROTOCOL', 'Cannot check chunks: the request does not name up to 256 of them');
  if (!Array.isArray(value) || value.length > CHECKS_PER_REQUEST) throw wrong;
  return value.map((id: unknown) => {
    if (typeof id === 'string' && isChunkId(id)) return id;
    throw wrong;
  });
}
