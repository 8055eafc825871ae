import { type NarHash, parseNarHash } from '@nex-nix/nix';
import { CHUNK_ID_SIZE, type ChunkId, unpackChunkIds } from './chunk-id.ts';
import { CacheError } from './errors.ts';
import { CHUNKING, MAX_CHUNK_SIZE } from './fastcdc.ts';

/** A chunk as a manifest names it. */
export interface ChunkRef {
  readonly id: ChunkId;
  /** Length of the uncompressed chunk in bytes, 1 to {@link MAX_CHUNK_SIZE}. */
  readonly size: number;
}

/** The ordered list of chunks that is a NAR. */
export interface Manifest {
  readonly narHash: NarHash;
  readonly narSize: number;
  readonly chunks: readonly ChunkRef[];
}

/** First line of an encoded manifest. */
interface Header {
  /** Version of the format. */
  v: 1;
  narHash: string;
  narSize: number;
  /** The rule that cut the chunks. A reader does not need it; who repairs a cache does. */
  algo: string;
  /** 0: the chunks are the NAR. 1 (not read by this version): store hashes have been blanked in them. */
  norm: 0;
  /** Number of chunks. */
  chunks: number;
}

const RECORD_SIZE = CHUNK_ID_SIZE + 4;

/**
 * A manifest as it is stored: one line of JSON, then for each chunk the 32 bytes of its id and its uncompressed length as
 * unsigned 32-bit little endian.
 */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { narHash, narSize, chunks } = manifest;
  const header: Header = { v: 1, narHash, narSize, algo: CHUNKING, norm: 0, chunks: chunks.length };
  const head = Buffer.from(`${JSON.stringify(header)}\n`);
  const encoded = Buffer.allocUnsafe(head.length + chunks.length * RECORD_SIZE);
  encoded.set(head);
  let at = head.length;
  for (const { id, size } of chunks) {
    at += encoded.write(id, at, 'base64url');
    at = encoded.writeUInt32LE(size, at);
  }
  return encoded;
}

/**
 * Reads what {@link encodeManifest} wrote.
 * @param origin - what the manifest belongs to, for the message of the error.
 * @throws {@link CacheError} `CACHE_MANIFEST_INVALID`
 */
export function decodeManifest(bytes: Uint8Array, origin: string): Manifest {
  const invalid = (what: string, cause?: unknown) =>
    new CacheError('CACHE_MANIFEST_INVALID', `Cannot read the manifest of "${origin}": ${what}`, { cause });
  const encoded = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = encoded.indexOf('\n');
  let header: Partial<Record<keyof Header, unknown>>;
  let narHash: NarHash;
  try {
    header = JSON.parse(encoded.toString('utf8', 0, Math.max(0, end))) as typeof header;
    narHash = parseNarHash(String(header.narHash));
  } catch (cause) {
    throw invalid('its first line makes no sense', cause);
  }
  if (header.v !== 1 || header.norm !== 0) {
    throw invalid(`it has format ${String(header.v)}.${String(header.norm)}, this version reads 1.0`);
  }
  const chunks = decodeRecords(encoded.subarray(end + 1));
  if (encoded.length - end - 1 !== chunks.length * RECORD_SIZE || header.chunks !== chunks.length) {
    throw invalid('its list of chunks is cut off');
  }
  let narSize = 0;
  for (const { size } of chunks) {
    if (size < 1 || size > MAX_CHUNK_SIZE) throw invalid(`a chunk has ${size} bytes`);
    narSize += size;
  }
  if (narSize !== header.narSize) throw invalid(`its chunks add up to ${narSize} bytes, not ${String(header.narSize)}`);
  return { narHash, narSize, chunks };
}

function decodeRecords(records: Buffer): ChunkRef[] {
  const chunks: ChunkRef[] = [];
  for (let at = 0; at + RECORD_SIZE <= records.length; at += RECORD_SIZE) {
    const [id] = unpackChunkIds(records.subarray(at, at + CHUNK_ID_SIZE));
    if (id !== undefined) chunks.push({ id, size: records.readUInt32LE(at + CHUNK_ID_SIZE) });
  }
  return chunks;
}
