import { NixError } from '../nix-error.ts';

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const HEADER_MAX = 18;

/**
 * Cuts a stream of zstd frames so that no chunk holds bytes of two frames.
 *
 * @throws {@link NixError} as {@link ZstdFrames}.
 */
export async function* splitZstdFrames(
  source: AsyncIterable<Uint8Array>,
  frames: ZstdFrames,
): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of source) {
    let start = 0;
    for (const end of frames.ends(chunk)) {
      yield chunk.subarray(start, end);
      start = end;
    }
    if (start < chunk.length) yield chunk.subarray(start);
  }
  frames.finish();
}

type Part = 'magic' | 'skip-size' | 'frame-header' | 'block-header';

/**
 * Finds where zstd frames end: Node's decoder drops whatever follows the end of a frame in the same chunk, and binary caches do serve
 * several frames in a row (Nix 2.35 and later write one per 16 MiB). Source of the format: RFC 8878, section 3.1.
 */
export class ZstdFrames {
  readonly #origin: string;
  /** The header being collected. */
  #part: Part = 'magic';
  readonly #header = Buffer.alloc(HEADER_MAX);
  #have = 0;
  #want = 4;
  /** Bytes to pass over before the next header. */
  #skip = 0;
  #lastBlock = false;
  #checksum = false;

  constructor(origin: string) {
    this.#origin = origin;
  }

  /** Where frames end in `chunk`, the next one. @throws {@link NixError} `NIX_COMPRESSION_INVALID` for anything that is not a frame. */
  *ends(chunk: Uint8Array): Generator<number, void> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
      } else {
        this.#header[this.#have++] = chunk[at++] ?? 0;
        if (this.#have === this.#want) this.#headerComplete();
      }
      if (this.#skip === 0 && this.#lastBlock) {
        this.#lastBlock = false;
        this.#expect('magic', 4);
        yield at;
      }
    }
  }

  /** There are no more chunks. @throws {@link NixError} `NIX_COMPRESSION_INVALID` when the last frame is cut off. */
  finish(): void {
    if (this.#part !== 'magic' || this.#have > 0 || this.#skip > 0)
      throw this.#invalid('it ends in the middle of a zstd frame');
  }

  #headerComplete(): void {
    switch (this.#part) {
      case 'magic': {
        const magic = this.#header.readUInt32LE();
        if (magic === MAGIC) return this.#expect('frame-header', 1);
        if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) return this.#expect('skip-size', 4);
        throw this.#invalid('it is not made of zstd frames');
      }
      case 'skip-size':
        this.#skip = this.#header.readUInt32LE();
        this.#lastBlock = true;
        return;
      case 'frame-header': {
        const size = frameHeaderSize(this.#header[0] ?? 0);
        if (size > this.#have) {
          this.#want = size;
          return;
        }
        this.#checksum = ((this.#header[0] ?? 0) & 0b100) !== 0;
        return this.#expect('block-header', 3);
      }
      case 'block-header': {
        const header = this.#header.readUIntLE(0, 3);
        const isRunLength = ((header >> 1) & 3) === 1;
        this.#lastBlock = (header & 1) === 1;
        this.#skip = (isRunLength ? 1 : header >> 3) + (this.#lastBlock && this.#checksum ? 4 : 0);
        return this.#expect('block-header', 3);
      }
    }
  }

  #expect(part: Part, size: number): void {
    this.#part = part;
    this.#want = size;
    this.#have = 0;
  }

  #invalid(why: string): NixError {
    return new NixError('NIX_COMPRESSION_INVALID', `Cannot decompress "${this.#origin}": ${why}`);
  }
}

/** Size of a frame header with this descriptor, descriptor included. */
function frameHeaderSize(descriptor: number): number {
  const contentSizeFlag = descriptor >> 6;
  const singleSegment = (descriptor >> 5) & 1;
  const contentSize = contentSizeFlag === 0 ? singleSegment : 1 << contentSizeFlag;
  const dictionaryId = [0, 1, 2, 4][descriptor & 3] ?? 0;
  return 1 + (singleSegment === 1 ? 0 : 1) + dictionaryId + contentSize;
}
