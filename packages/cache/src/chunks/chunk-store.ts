import type { StorePath } from '@nex-nix/nix';
import { type ChunkId, computeChunkId } from './chunk-id.ts';
import { CacheError, REPAIR_HINT } from '../errors.ts';
import { type JetStream, lastMessage, type StoredMessage, storeOnce } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, chunkSubject, CODEC_HEADER, LENGTH_HEADER } from '../jetstream/layout.ts';
import { type ChunkRef, invalidManifest, type Manifest } from '../manifests/manifest.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import type { LocalChunkReader } from './local-chunks.ts';
import { MentionPlaces } from '../manifests/mentions.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import type { FetchedChunk, SharedChunks } from './shared-chunks.ts';
import { type Compressor, decompress } from './zstd.ts';

/** Chunks of one NAR that are fetched at once. At 256 KiB each, more is not faster, but costs memory. */
const READ_WINDOW = 8;

/** The path whose chunks are read, for errors, and the signal that ends it. */
interface ReadTask {
  readonly path: StorePath;
  readonly signal?: AbortSignal | undefined;
}

/** Options of {@link readChunks}. */
export interface ReadChunksTask extends ReadTask {
  /** What other reads of the same client have fetched. */
  readonly shared?: SharedChunks | undefined;
  /** What need not be fetched. */
  readonly local?: LocalChunkReader | undefined;
  /** A piece of the NAR is of no use any more once the next one is asked for. */
  readonly reuseChunks?: boolean | undefined;
  /** Called when a chunk cannot be read; resolves with true when it is worth trying once more. */
  readonly onDamage?: ((error: unknown, signal: AbortSignal) => Promise<boolean>) | undefined;
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
      hint: REPAIR_HINT,
      storePath: task.path,
      chunk: chunk.id,
    },
  );
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
  const fetch = (chunk: ChunkRef, signal: AbortSignal) => {
    const get = () => getChunk(jetstream, chunk, { path: task.path, signal });
    const fetchHere = async () => {
      const local = await task.local?.read(chunk, signal);
      if (local !== undefined) return local;
      try {
        return await get();
      } catch (error) {
        if (!((await task.onDamage?.(error, signal)) ?? false)) throw error;
        return get();
      }
    };
    return task.shared?.get(chunk.id, fetchHere) ?? alone(fetchHere);
  };
  const places = new MentionPlaces(manifest);
  let start = 0;
  const fetched = mapOrdered(manifest.chunks, fetch, { window: READ_WINDOW, signal: task.signal });
  for await (const { bytes, isOwn } of fetched) {
    const piece = restored(places, { bytes, start }, task);
    // By the time the next one is asked for, its reader may have given its memory back.
    start += bytes.length;
    const isCopy = piece !== bytes;
    if (isCopy && isOwn) releaseMemory(bytes);
    yield piece;
    if (task.reuseChunks === true && (isCopy || isOwn)) releaseMemory(piece);
  }
}

async function alone(fetch: () => Promise<Uint8Array>): Promise<FetchedChunk> {
  return { bytes: await fetch(), isOwn: true };
}

function restored(
  places: MentionPlaces,
  { bytes, start }: { bytes: Uint8Array; start: number },
  { path }: ReadTask,
): Uint8Array {
  try {
    return places.restore(bytes, start);
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
  if (bytes.length === chunk.size && (await computeChunkId(bytes)) === chunk.id) return bytes;
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
    hint: REPAIR_HINT,
    storePath: path,
    chunk: chunk.id,
  });
}
