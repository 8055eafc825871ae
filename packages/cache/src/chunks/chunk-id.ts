import { createHash } from 'node:crypto';

/** The SHA-256 of a chunk's uncompressed bytes, as 43 base64url characters. It is the chunk's name. */
export type ChunkId = string & { readonly __brand: 'ChunkId' };

/** Bytes of one packed chunk id. */
export const CHUNK_ID_SIZE = 32;

/** From this length on, hashing takes several times as long as handing the bytes to another thread, unless it {@link isFast}. */
const WORTH_A_THREAD = 32 * 1024;
/** Bytes in a millisecond. Processors with instructions for SHA hash twice as many, others a third. */
const FAST = 1_000_000;
const TRIAL_SIZE = 64 * 1024;
const TRIALS = 3;

const PATTERN = /^[A-Za-z0-9_-]{43}$/;

/** The name of the chunk with this content. */
export function chunkIdOf(bytes: Uint8Array): ChunkId {
  return createHash('sha256').update(bytes).digest('base64url') as ChunkId;
}

let isFastHere: boolean | undefined;

/** Whether this machine hashes a chunk in about the time that another thread needs to begin with it. */
function isFast(): boolean {
  if (isFastHere !== undefined) return isFastHere;
  const bytes = Buffer.alloc(TRIAL_SIZE);
  const times = Array.from({ length: TRIALS }, () => {
    const start = performance.now();
    chunkIdOf(bytes);
    return performance.now() - start;
  });
  return (isFastHere = Math.min(...times) * FAST < TRIAL_SIZE);
}

/** {@link chunkIdOf}, by another thread where that pays. `bytes` may be released meanwhile. */
export async function computeChunkId(bytes: Uint8Array): Promise<ChunkId> {
  // Shared memory is not taken there.
  if (bytes.length < WORTH_A_THREAD || !(bytes.buffer instanceof ArrayBuffer) || isFast()) return chunkIdOf(bytes);
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return Buffer.from(digest).toString('base64url') as ChunkId;
}

/** Whether `text` looks like the name of a chunk. */
export function isChunkId(text: string): text is ChunkId {
  return PATTERN.test(text);
}

/** Chunk ids as 32 bytes each, one after the other. */
export function packChunkIds(ids: readonly ChunkId[]): Uint8Array {
  const packed = Buffer.allocUnsafe(ids.length * CHUNK_ID_SIZE);
  for (const [i, id] of ids.entries()) packed.write(id, i * CHUNK_ID_SIZE, 'base64url');
  return packed;
}

/** The reverse of {@link packChunkIds}; the last id may be cut off, which callers check by the length. */
export function unpackChunkIds(packed: Uint8Array): ChunkId[] {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const ids: ChunkId[] = [];
  for (let at = 0; at + CHUNK_ID_SIZE <= bytes.length; at += CHUNK_ID_SIZE) {
    ids.push(bytes.toString('base64url', at, at + CHUNK_ID_SIZE) as ChunkId);
  }
  return ids;
}
