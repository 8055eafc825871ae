import { type StorePath, storePathHash } from '@nex-nix/nix';
import { type ChunkId, chunkIdOf } from './chunk-id.ts';
import { CacheError } from './errors.ts';
import { attempt, type JetStream, lastMessage, type StoredMessage, storeOnce } from './jetstream.ts';
import { CHUNK_STREAM, chunkSubject, CODEC_HEADER, LENGTH_HEADER, NARINFO_BUCKET } from './layout.ts';
import { type ChunkRef, invalidManifest, type Manifest } from './manifest.ts';
import { mapOrdered } from './map-ordered.ts';
import { MentionRestorer } from './mentions.ts';
import type { SharedChunks } from './shared-chunks.ts';
import { type Compressor, decompress } from './zstd.ts';

/** Chunks of one NAR that are fetched at once. At 256 KiB each, more is not faster, but costs memory. */
const READ_WINDOW = 16;

/** The path whose chunks are read, for errors, and the signal that ends it. */
export interface ReadTask {
  readonly path: StorePath;
  readonly signal?: AbortSignal | undefined;
}

/** Options of {@link readChunks}. */
export interface ReadChunksTask extends ReadTask {
  /** What other reads of the same client have fetched. */
  readonly shared?: SharedChunks | undefined;
}

/**
 * Compresses and stores a chunk, unless there is one of its name.
 * @returns the bytes stored, 0 when it was there.
 */
export async function putChunk(
  jetstream: JetStream,
  { id, bytes }: { id: ChunkId; bytes: Uint8Array },
  { compressor, signal }: { compressor: Compressor; signal?: AbortSignal | undefined },
): Promise<number> {
  const frame = await compressor.compress(bytes);
  const shrunk = frame.length < bytes.length;
  const body = shrunk ? frame : bytes;
  const headers = { [LENGTH_HEADER]: String(bytes.length), [CODEC_HEADER]: shrunk ? 'zstd' : 'raw' };
  const message = { subject: chunkSubject(id), body, headers };
  const stored = await storeOnce(jetstream, message, { action: `store chunk "${id}"`, signal });
  return stored ? message.body.length : 0;
}

/**
 * Fetches a chunk, decodes it, and verifies it against its name.
 * @throws {@link CacheError} `CACHE_CHUNK_MISSING`, `CACHE_CHUNK_CORRUPT`
 */
async function getChunk(jetstream: JetStream, chunk: ChunkRef, task: ReadTask): Promise<Uint8Array> {
  const message = await chunkMessage(jetstream, chunk, task);
  if (message !== undefined) return decodeChunk(message, chunk, task);
  throw new CacheError(
    'CACHE_CHUNK_MISSING',
    `Cannot fetch "${task.path}": its chunk "${chunk.id}" is not in the cache`,
    {
      hint: repairHint(task.path),
      storePath: task.path,
      chunk: chunk.id,
    },
  );
}

/** Deletes what is stored under the name of a chunk when it is not that chunk, so that a push can store it anew. */
export async function dropCorruptChunk(jetstream: JetStream, chunk: ChunkRef, task: ReadTask): Promise<void> {
  const message = await chunkMessage(jetstream, chunk, task);
  if (message === undefined) return;
  try {
    await decodeChunk(message, chunk, task);
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    const { nc, jsm } = jetstream;
    await attempt(nc, { action: `delete the damaged chunk "${chunk.id}"`, signal: task.signal }, () =>
      jsm.streams.deleteMessage(CHUNK_STREAM, message.seq, false),
    );
  }
}

/**
 * The NAR that a manifest lists, a piece for each chunk, each verified; the next ones are fetched meanwhile. The hash of the
 * whole is not verified here: whoever imports it does.
 */
export async function* readChunks(
  jetstream: JetStream,
  manifest: Manifest,
  task: ReadChunksTask,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { chunks, mentions, narSize } = manifest;
  const fetch = (chunk: ChunkRef, signal: AbortSignal) => {
    const fetchHere = () => getChunk(jetstream, chunk, { path: task.path, signal });
    return task.shared?.get(chunk.id, fetchHere) ?? fetchHere();
  };
  const contents = mapOrdered(chunks, fetch, { window: READ_WINDOW, signal: task.signal });
  if (mentions === undefined) return yield* contents;
  const restorer = new MentionRestorer(mentions, narSize);
  for await (const bytes of contents) yield restored(restorer, bytes, task);
}

function restored(restorer: MentionRestorer, bytes: Uint8Array, { path }: ReadTask): Uint8Array {
  try {
    return restorer.restore(bytes);
  } catch (cause) {
    if (cause instanceof RangeError) throw invalidManifest(path, cause.message, cause);
    throw cause;
  }
}

async function chunkMessage(jetstream: JetStream, { id }: ChunkRef, { path, signal }: ReadTask) {
  const where = { stream: CHUNK_STREAM, subject: chunkSubject(id) };
  return lastMessage(jetstream, where, { action: `fetch chunk "${id}" of "${path}"`, signal });
}

/** The content of a stored chunk, verified. */
async function decodeChunk(message: StoredMessage, chunk: ChunkRef, task: ReadTask): Promise<Uint8Array> {
  const bytes = await decodeBody(message, chunk, task);
  if (bytes.length === chunk.size && chunkIdOf(bytes) === chunk.id) return bytes;
  throw corrupt(chunk, task, 'its content does not match its name');
}

async function decodeBody(message: StoredMessage, chunk: ChunkRef, task: ReadTask): Promise<Uint8Array> {
  const codec = message.headers.get(CODEC_HEADER);
  if (codec === 'raw') return message.data;
  if (codec !== 'zstd') throw corrupt(chunk, task, `its codec is "${codec}"`);
  try {
    return await decompress(message.data, chunk.size);
  } catch (cause) {
    throw corrupt(chunk, task, 'it cannot be decompressed', cause);
  }
}

function corrupt(chunk: ChunkRef, { path }: ReadTask, why: string, cause?: unknown): CacheError {
  return new CacheError('CACHE_CHUNK_CORRUPT', `Cannot use chunk "${chunk.id}" of "${path}": ${why}`, {
    cause,
    hint: repairHint(path),
    storePath: path,
    chunk: chunk.id,
  });
}

/** A push verifies what it finds under the names of its chunks, and replaces it, once the cache no longer lists the path. */
function repairHint(path: StorePath): string {
  return `Push the path again after: nats kv del ${NARINFO_BUCKET} ${storePathHash(path)}`;
}
