import { endianness } from 'node:os';
import { GEAR } from './gear.ts';
import { ownMemory } from '../tasks/own-memory.ts';

/** Name of the cut rule, written into every manifest. */
export const CHUNKING = 'fastcdc-64-256-1020-gear1';

/** A chunk is smaller than this only when its NAR ends. */
export const MIN_CHUNK_SIZE = 64 * 1024;
/** Below 1 MiB, so that a chunk that does not shrink fits with its headers into the default `max_payload` of nats-server. */
export const MAX_CHUNK_SIZE = 1020 * 1024;

const NOTHING = new Uint8Array();
const NO_WORDS = new Uint32Array();
const IS_LITTLE_ENDIAN = endianness() === 'LE';

/** Sizes of chunks in bytes. */
export interface ChunkSizes {
  readonly min: number;
  /** The size around which cut points become likely, a power of 2. */
  readonly average: number;
  readonly max: number;
}

/** The sizes of {@link CHUNKING}. */
const SIZES: ChunkSizes = { min: MIN_CHUNK_SIZE, average: 256 * 1024, max: MAX_CHUNK_SIZE };

/**
 * Cuts a byte stream into content-defined chunks, so that an insertion or a change moves the cut points next to it only
 * (FastCDC: Xia et al., USENIX ATC 2016, with its normalised chunking, on a 32-bit gear hash).
 *
 * The cut points depend on the bytes alone, never on how they are split into pieces. Concatenated, the chunks are the
 * stream; an empty stream has none. Each chunk has memory of its own; a piece of the source may change once the next one is
 * asked for. No more than one chunk is held at a time.
 */
export async function* cutChunks(
  source: AsyncIterable<Uint8Array>,
  sizes = SIZES,
): AsyncGenerator<Uint8Array, void, undefined> {
  let cutter = new Cutter(sizes);
  const begun = new BegunChunk(sizes.max);
  for await (const piece of source) {
    for (let start = 0; start < piece.length;) {
      const end = cutter.scan(piece, start);
      const bytes = piece.subarray(start, end);
      start = end;
      if (cutter.atCut) {
        cutter = new Cutter(sizes);
        yield begun.completedBy(bytes);
      } else begun.add(bytes);
    }
  }
  if (cutter.size > 0) yield begun.completedBy(NOTHING);
}

/** What came of a chunk with earlier pieces. */
class BegunChunk {
  readonly #max: number;
  #memory: Uint8Array = NOTHING;
  #size = 0;

  constructor(max: number) {
    this.#max = max;
  }

  add(bytes: Uint8Array): void {
    const size = this.#size + bytes.length;
    if (size > this.#memory.length) {
      const larger = ownMemory(Math.min(this.#max, Math.max(size, 2 * this.#memory.length)));
      larger.set(this.#memory.subarray(0, this.#size));
      this.#memory = larger;
    }
    this.#memory.set(bytes, this.#size);
    this.#size = size;
  }

  /** The whole chunk, of which `bytes` is the end. */
  completedBy(bytes: Uint8Array): Uint8Array {
    const chunk = ownMemory(this.#size + bytes.length);
    chunk.set(this.#memory.subarray(0, this.#size));
    chunk.set(bytes, this.#size);
    this.#size = 0;
    return chunk;
  }
}

/** Finds the end of one chunk in bytes that arrive piecewise. */
class Cutter {
  /** Bytes of the chunk seen so far. */
  size = 0;
  /** Whether the chunk ends at `size`. */
  atCut = false;
  readonly #sizes: ChunkSizes;
  #hash = 0;

  constructor(sizes: ChunkSizes) {
    this.#sizes = sizes;
  }

  /** Scans `piece` from `start` on; returns where the chunk ends, or the end of the piece when it does not end in it. */
  scan(piece: Uint8Array, start: number): number {
    // A position p of the piece is the offset `p - base` of the chunk.
    const base = start - this.size;
    const limit = (size: number) => Math.min(piece.length, Math.max(start, base + size));
    const { min, average, max } = this.#sizes;
    // Normalised chunking: 2 bits more than log2(average) before the average size is reached, 2 bits fewer after it.
    const bits = Math.log2(average);
    let at = limit(min);
    at = this.#roll(piece, at, { end: limit(average), mask: highBits(bits + 2) });
    if (!this.atCut) at = this.#roll(piece, at, { end: limit(max), mask: highBits(bits - 2) });
    this.size = at - base;
    this.atCut ||= this.size === max;
    return at;
  }

  #roll(piece: Uint8Array, start: number, { end, mask }: { end: number; mask: number }): number {
    const gear = GEAR;
    const { buffer, byteOffset } = piece;
    let hash = this.#hash;
    let at = start;
    const wordsFrom = IS_LITTLE_ENDIAN ? Math.min(end, at + (-(byteOffset + at) & 3)) : end;
    for (; at < wordsFrom; at++) {
      hash = ((hash << 1) + (gear[piece[at] as number] as number)) | 0;
      if ((hash & mask) === 0) return this.#cut(at + 1);
    }
    // Four bytes a turn: three times as fast as one.
    const words = at < end ? new Uint32Array(buffer, byteOffset + at, (end - at) >> 2) : NO_WORDS;
    for (let i = 0; i < words.length; i++) {
      const word = words[i] as number;
      const first = ((hash << 1) + (gear[word & 0xff] as number)) | 0;
      const second = ((first << 1) + (gear[(word >>> 8) & 0xff] as number)) | 0;
      const third = ((second << 1) + (gear[(word >>> 16) & 0xff] as number)) | 0;
      hash = ((third << 1) + (gear[word >>> 24] as number)) | 0;
      if ((first & mask) === 0) return this.#cut(at + 4 * i + 1);
      if ((second & mask) === 0) return this.#cut(at + 4 * i + 2);
      if ((third & mask) === 0) return this.#cut(at + 4 * i + 3);
      if ((hash & mask) === 0) return this.#cut(at + 4 * i + 4);
    }
    for (at += 4 * words.length; at < end; at++) {
      hash = ((hash << 1) + (gear[piece[at] as number] as number)) | 0;
      if ((hash & mask) === 0) return this.#cut(at + 1);
    }
    this.#hash = hash;
    return at;
  }

  #cut(at: number): number {
    this.atCut = true;
    return at;
  }
}

/** The high bits are tested because they depend on the last 13 to 32 bytes, the low ones on fewer. */
function highBits(count: number): number {
  return -1 << (32 - count);
}
