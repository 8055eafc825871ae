import { type NarHash, parseNarHash } from '@nex-nix/nix';
import { CHUNK_ID_SIZE, type ChunkId, unpackChunkIds } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import { CHUNKING, MAX_CHUNK_SIZE } from '../chunks/fastcdc.ts';
import { decodeMentions, MAX_MENTIONS, type Mentions } from './mentions.ts';

/** A chunk as a manifest names it. */
export interface ChunkRef {
  readonly id: ChunkId;
  /** Length of the uncompressed chunk in bytes, 1 to {@link MAX_CHUNK_SIZE}. */
  readonly size: number;
}

/**
 * The ordered list of chunks that is a NAR. It says all that it takes to have the NAR again: paths with the same NAR share it,
 * whatever they refer to.
 */
export interface Manifest {
  readonly narHash: NarHash;
  readonly narSize: number;
  readonly chunks: readonly ChunkRef[];
  /** The hash parts of store paths that are to be put into the chunks; absent: the chunks are the NAR. */
  readonly mentions?: Mentions | undefined;
}

/** First line of an encoded manifest. */
interface Header {
  /** Version of the format. */
  v: 1;
  narHash: string;
  narSize: number;
  /** The rule that cut the chunks. A reader does not need it; who repairs a cache does. */
  algo: string;
  /** 0: the chunks are the NAR. 1: they have fillers in place of the hash parts of store paths. */
  norm: 0 | 1;
  /** Number of chunks. */
  chunks: number;
  /** With `norm` 1: the hash parts, sorted, each once. */
  hashes?: readonly string[];
  /** With `norm` 1: number of places that have a filler. */
  mentions?: number;
}

const RECORD_SIZE = CHUNK_ID_SIZE + 4;

/** The hash part of a store path. */
const HASH_PART = /^[0-9a-df-np-sv-z]{32}$/;

/**
 * A manifest as it is stored: one line of JSON; for each chunk the 32 bytes of its id and its uncompressed length as unsigned
 * 32-bit little endian; with `norm` 1 the table of {@link Mentions}, up to the end.
 */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { narHash, narSize, chunks, mentions } = manifest;
  const header: Header = { v: 1, narHash, narSize, algo: CHUNKING, norm: 0, chunks: chunks.length };
  if (mentions !== undefined) Object.assign(header, { norm: 1, hashes: mentions.hashes, mentions: mentions.count });
  const head = Buffer.from(`${JSON.stringify(header)}\n`);
  const table = mentions?.table ?? new Uint8Array();
  const encoded = Buffer.allocUnsafe(head.length + chunks.length * RECORD_SIZE + table.length);
  encoded.set(head);
  let at = head.length;
  for (const { id, size } of chunks) {
    at += encoded.write(id, at, 'base64url');
    at = encoded.writeUInt32LE(size, at);
  }
  encoded.set(table, at);
  return encoded;
}

/**
 * Reads what {@link encodeManifest} wrote.
 * @param origin - what the manifest belongs to, for the message of the error.
 * @throws {@link CacheError} `CACHE_MANIFEST_INVALID`
 */
export function decodeManifest(bytes: Uint8Array, origin: string): Manifest {
  const encoded = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = encoded.indexOf('\n');
  let header: Partial<Record<keyof Header, unknown>>;
  let narHash: NarHash;
  try {
    header = JSON.parse(encoded.toString('utf8', 0, Math.max(0, end))) as typeof header;
    narHash = parseNarHash(String(header.narHash));
  } catch (cause) {
    throw invalidManifest(origin, 'its first line makes no sense', cause);
  }
  const { v, norm } = header;
  if (v !== 1 || (norm !== 0 && norm !== 1)) {
    throw invalidManifest(origin, `it has format ${String(v)}.${String(norm)}, this version reads 1.0 and 1.1`);
  }
  const rest = encoded.subarray(end + 1);
  const recordsSize = Number(header.chunks) * RECORD_SIZE;
  const chunks = decodeRecords(rest.subarray(0, recordsSize));
  if (header.chunks !== chunks.length || (norm === 0 && rest.length !== recordsSize)) {
    throw invalidManifest(origin, 'its list of chunks is cut off');
  }
  let narSize = 0;
  for (const { size } of chunks) {
    if (size < 1 || size > MAX_CHUNK_SIZE) throw invalidManifest(origin, `a chunk has ${size} bytes`);
    narSize += size;
  }
  if (narSize !== header.narSize) {
    throw invalidManifest(origin, `its chunks add up to ${narSize} bytes, not ${String(header.narSize)}`);
  }
  const manifest = { narHash, narSize, chunks };
  if (norm === 0) return manifest;
  // Copied: what is kept of a manifest must not keep the message that it came in.
  const mentions = readMentions(header, Uint8Array.from(rest.subarray(recordsSize)), origin);
  try {
    for (const _ of decodeMentions(mentions, narSize));
  } catch (cause) {
    if (cause instanceof RangeError) throw invalidManifest(origin, cause.message, cause);
    throw cause;
  }
  return { ...manifest, mentions };
}

/** Where each chunk begins, in bytes from the start of the NAR. */
export function chunkStarts({ chunks }: Pick<Manifest, 'chunks'>): number[] {
  let at = 0;
  return chunks.map(({ size }) => (at += size) - size);
}

/** A manifest cannot be used. */
export function invalidManifest(origin: string, what: string, cause?: unknown): CacheError {
  return new CacheError('CACHE_MANIFEST_INVALID', `Cannot read the manifest of "${origin}": ${what}`, { cause });
}

function readMentions(
  { hashes, mentions: count }: Partial<Record<keyof Header, unknown>>,
  table: Uint8Array,
  origin: string,
): Mentions {
  if (!isCount(count) || count > MAX_MENTIONS) {
    throw invalidManifest(origin, `it counts ${String(count)} mentions, 1 to ${MAX_MENTIONS} are allowed`);
  }
  if (!Array.isArray(hashes) || !hashes.every(isHashPart)) {
    throw invalidManifest(origin, 'what it mentions are not the hash parts of store paths');
  }
  if (hashes.some((hash, i) => i > 0 && hash <= (hashes[i - 1] as string))) {
    throw invalidManifest(origin, 'the paths that it mentions are not in order');
  }
  return { hashes, count, table };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isHashPart(value: unknown): value is string {
  return typeof value === 'string' && HASH_PART.test(value);
}

function decodeRecords(records: Buffer): ChunkRef[] {
  const chunks: ChunkRef[] = [];
  for (let at = 0; at + RECORD_SIZE <= records.length; at += RECORD_SIZE) {
    const [id] = unpackChunkIds(records.subarray(at, at + CHUNK_ID_SIZE));
    if (id !== undefined) chunks.push({ id, size: records.readUInt32LE(at + CHUNK_ID_SIZE) });
  }
  return chunks;
}
