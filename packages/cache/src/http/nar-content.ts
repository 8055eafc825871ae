import type { StorePath } from '@nex-nix/nix';
import { chunkIdOf, computeChunkId } from '../chunks/chunk-id.ts';
import { readChunks } from '../chunks/chunk-store.ts';
import { CacheError } from '../errors.ts';
import { type JetStream, lastMessage } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, chunkSubject, CODEC_HEADER } from '../jetstream/layout.ts';
import { type ChunkRef, chunkStarts } from '../manifests/manifest.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { MentionPlaces } from '../manifests/mentions.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import { type Compressor, decompress } from '../chunks/zstd.ts';
import type { ByteRange } from './byte-range.ts';
import { encode } from './codec.ts';
import type { KnownNar } from './nar-index.ts';
import type { RecentMap } from './recent-map.ts';
import { rawFrame } from './zstd-frame.ts';

/** What it takes to read NARs. */
export interface NarReader {
  readonly jetstream: JetStream;
  readonly compressor: Compressor;
  /** Sizes of the zstd frames that were seen, by {@link frameKey}. */
  readonly frameSizes: RecentMap<string, number>;
  /** Told of a chunk that cannot be read. Resolves with whether it can be by now. */
  readonly onDamage: (error: unknown) => Promise<boolean>;
}

/** The bytes of a file, as it is sent. */
export interface NarContent {
  /** Undefined as long as it is not known; then there are no ranges either. */
  readonly length: number | undefined;
  read(range: ByteRange | undefined, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Pieces fetched at once for one client: a mebibyte each at most, a quarter of that usually. */
const READ_WINDOW = 8;

/** A file of a NAR, to be sent with any compression. */
export function narContent(reader: NarReader, nar: KnownNar): NarContent {
  if (nar.compression === 'zstd') return frames(reader, nar);
  const plain = plainContent(reader, nar);
  const { compression } = nar;
  if (compression === 'none') return plain;
  return { length: undefined, read: (_range, signal) => encode(plain.read(undefined, signal), compression) };
}

/**
 * {@link narContent} whose length is known, where that takes no more than to fetch what can be held at once.
 */
export async function measuredContent(reader: NarReader, nar: KnownNar, signal: AbortSignal): Promise<NarContent> {
  const content = narContent(reader, nar);
  const { length } = nar.manifest.chunks;
  if (content.length !== undefined || nar.compression !== 'zstd' || length > READ_WINDOW) return content;
  const pieces = await Array.fromAsync(content.read(undefined, signal));
  return piecewise(
    pieces.map((piece) => piece.length),
    async (index) => pieces[index] ?? Buffer.alloc(0),
  );
}

function plainContent(reader: NarReader, nar: KnownNar): NarContent {
  const mentions = new MentionPlaces(nar.manifest);
  const { chunks } = nar.manifest;
  const starts = chunkStarts(nar.manifest);
  return piecewise(
    chunks.map(({ size }) => size),
    async (index, signal) => {
      const bytes = await chunkBytes(reader, nar, { chunk: chunkAt(chunks, index), signal });
      return mentions.restore(bytes, starts[index] ?? 0);
    },
  );
}

/**
 * The NAR as zstd frames one after the other, one for each chunk: as it is stored, where that is a frame and nothing in it is
 * to be restored.
 */
function frames(reader: NarReader, nar: KnownNar): NarContent {
  const { chunks, narHash } = nar.manifest;
  const mentions = new MentionPlaces(nar.manifest);
  const starts = chunkStarts(nar.manifest);
  const frameKey = (index: number) =>
    nar.manifest.mentions === undefined ? chunkAt(chunks, index).id : `${narHash}/${index}`;
  const sizes = chunks.map((_, index) => reader.frameSizes.get(frameKey(index)));
  const known = sizes.every((size) => size !== undefined) ? sizes : undefined;
  return piecewise(known ?? chunks.length, async (index, signal) => {
    const chunk = chunkAt(chunks, index);
    const start = starts[index] ?? 0;
    const frame = mentions.isIn(start, start + chunk.size)
      ? await newFrame(reader, mentions.restore(await chunkBytes(reader, nar, { chunk, signal }), start))
      : await storedFrame(reader, nar, { chunk, signal });
    reader.frameSizes.set(frameKey(index), frame.length);
    return frame;
  });
}

/** Content made of pieces, which are fetched ahead. Their sizes are known, or their number is. */
function piecewise(
  sizes: readonly number[] | number,
  fetch: (index: number, signal: AbortSignal) => Promise<Uint8Array>,
): NarContent {
  const isKnown = typeof sizes !== 'number';
  const length = isKnown ? sizes.reduce((sum, size) => sum + size, 0) : undefined;
  const checked = async (index: number, signal: AbortSignal) => {
    const piece = await fetch(index, signal);
    if (!isKnown || piece.length === sizes[index]) return piece;
    throw new CacheError(
      'CACHE_CHUNK_CORRUPT',
      `Cannot send a NAR: a piece of it has ${piece.length} bytes, ${sizes[index]} were announced`,
    );
  };
  return {
    length,
    async *read(range, signal) {
      const pieces: number[] = [];
      const count = isKnown ? sizes.length : sizes;
      let first: number | undefined;
      for (let index = 0, at = 0; index < count; index++) {
        const size = isKnown ? (sizes[index] ?? 0) : 0;
        if (range === undefined || (at < range.end && at + size > range.start)) {
          first ??= at;
          pieces.push(index);
        }
        at += size;
      }
      const found = mapOrdered(pieces, checked, { window: READ_WINDOW, signal });
      if (range === undefined) yield* found;
      else yield* cut(found, { start: range.start - (first ?? 0), end: range.end - (first ?? 0) });
    },
  };
}

async function* cut(source: AsyncIterable<Uint8Array>, { start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const bytes of source) {
    yield bytes.subarray(Math.max(0, start - at), Math.min(bytes.length, end - at));
    at += bytes.length;
  }
}

interface ChunkTask {
  readonly chunk: ChunkRef;
  readonly signal: AbortSignal;
}

/** The content of a chunk, verified. */
async function chunkBytes(reader: NarReader, nar: KnownNar, { chunk, signal }: ChunkTask): Promise<Uint8Array> {
  const alone = { narHash: nar.manifest.narHash, narSize: chunk.size, chunks: [chunk] };
  const task = { path: nameOf(nar), signal, onDamage: reader.onDamage };
  const pieces = await Array.fromAsync(readChunks(reader.jetstream, alone, task));
  return pieces[0] ?? Buffer.alloc(0);
}

/** A chunk as a zstd frame: as it is stored, verified all the same. */
async function storedFrame(reader: NarReader, nar: KnownNar, { chunk, signal }: ChunkTask): Promise<Uint8Array> {
  const { id } = chunk;
  const where = { stream: CHUNK_STREAM, subject: chunkSubject(id) };
  const task = { action: `fetch chunk "${id}" of "${nameOf(nar)}"`, signal };
  const message = await lastMessage(reader.jetstream, where, task);
  const codec = message?.headers.get(CODEC_HEADER);
  if (message !== undefined && codec === 'zstd' && (await isFrameOf(message.data, chunk))) return message.data;
  if (message !== undefined && codec === 'raw' && chunkIdOf(message.data) === id) return rawFrame(message.data);
  // Says what is wrong.
  return newFrame(reader, await chunkBytes(reader, nar, { chunk, signal }));
}

/** What is wrong with a frame that is not says who reads the chunk. */
async function isFrameOf(frame: Uint8Array, { id, size }: ChunkRef): Promise<boolean> {
  const bytes = await decompress(frame, size).catch(() => undefined);
  if (bytes?.length !== size) return false;
  const isSame = (await computeChunkId(bytes)) === id;
  releaseMemory(bytes);
  return isSame;
}

async function newFrame({ compressor }: NarReader, bytes: Uint8Array): Promise<Uint8Array> {
  const frame = await compressor.compress(bytes);
  return frame.length < bytes.length ? frame : rawFrame(bytes);
}

/** For messages. Who asks for a NAR asked for the narinfo before, though perhaps elsewhere; then the hash must do. */
function nameOf({ path, manifest }: KnownNar): StorePath {
  return path ?? (manifest.narHash as string as StorePath);
}

function chunkAt(chunks: readonly ChunkRef[], index: number): ChunkRef {
  const chunk = chunks[index];
  if (chunk === undefined) throw new RangeError(`There is no chunk ${index}`);
  return chunk;
}
