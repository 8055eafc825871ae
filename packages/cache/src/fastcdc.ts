import { GEAR } from './gear.ts';

/** Name of the cut rule, written into every manifest. */
export const CHUNKING = 'fastcdc-64-256-1020-gear1';

/** A chunk is smaller than this only when its NAR ends. */
export const MIN_CHUNK_SIZE = 64 * 1024;
/** Below 1 MiB, so that a chunk that does not shrink fits with its headers into the default `max_payload` of nats-server. */
export const MAX_CHUNK_SIZE = 1020 * 1024;

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
 * stream; an empty stream has none. A chunk that lies in one piece of the source is a view of it. No more than one chunk is
 * held at a time.
 */
export async function* cutChunks(
  source: AsyncIterable<Uint8Array>,
  sizes = SIZES,
): AsyncGenerator<Uint8Array, void, undefined> {
  let cutter = new Cutter(sizes);
  let pieces: Uint8Array[] = [];
  for await (const piece of source) {
    let start = 0;
    while (start < piece.length) {
      const end = cutter.scan(piece, start);
      pieces.push(piece.subarray(start, end));
      start = end;
      if (!cutter.atCut) continue;
      yield joined(pieces, cutter.size);
      cutter = new Cutter(sizes);
      pieces = [];
    }
  }
  if (cutter.size > 0) yield joined(pieces, cutter.size);
}

function joined(pieces: readonly Uint8Array[], size: number): Uint8Array {
  const [first, ...others] = pieces;
  return first === undefined || others.length > 0 ? Buffer.concat(pieces, size) : first;
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
    let hash = this.#hash;
    let at = start;
    // Two bytes a turn: a third faster than one.
    for (; at + 1 < end; at += 2) {
      const first = ((hash << 1) + (gear[piece[at] as number] as number)) | 0;
      hash = ((first << 1) + (gear[piece[at + 1] as number] as number)) | 0;
      if ((first & mask) === 0) return this.#cut(at + 1);
      if ((hash & mask) === 0) return this.#cut(at + 2);
    }
    for (; at < end; at++) {
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
