import { closeSync, constants, lstatSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { SignalOptions } from '../abortable.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { attempt, failed, walkTree } from './walk-tree.ts';

/** Reading is synchronous, which is fastest; after this many ms others get their turn. */
const TIME_SLICE = 5;
/** Pieces of a NAR that are remembered: less than 8 MiB of memory, trees of up to 16 000 files. */
const MAX_PIECES = 32_768;

/** Options of {@link NarRanges}. */
export interface NarRangesOptions {
  /** Pieces of the NAR that are remembered: each file is two, and so is a mebibyte of other things. @default 32768 */
  maxPieces?: number | undefined;
}

/** Bytes of a NAR that are known, or the contents of a file. */
type Content = { readonly bytes: Buffer } | { readonly file: Buffer; readonly size: number };
type Piece = Content & { readonly start: number; readonly end: number };

/**
 * Reads ranges of the NAR of a file, folder or symbolic link on disk, and nothing else of its files. The tree is walked as far as
 * ranges lie, once: of a tree that has more pieces than are remembered, ranges can be read in about ascending order only.
 *
 * Meant for trees that do not change. Of one that does, a range may hold anything: compare its hash.
 */
export class NarRanges {
  readonly #walk: Generator<Content, void>;
  readonly #maxPieces: number;
  #pieces: Piece[] = [];
  /** Where the part of the NAR ends that was walked. */
  #end = 0;

  constructor(path: string, { maxPieces = MAX_PIECES }: NarRangesOptions = {}) {
    this.#walk = walkPieces(path);
    this.#maxPieces = maxPieces;
  }

  /**
   * `size` bytes of the NAR from `start` on, in memory of their own. Undefined when the NAR ends before, or when the range begins where
   * the walk was too long ago, or has failed.
   *
   * @throws {@link NixError} `NIX_DUMP_FAILED` when something cannot be read.
   */
  async read(
    start: number,
    size: number,
    { signal }: SignalOptions = {},
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (size === 0) return new Uint8Array();
    const end = start + size;
    const turn = new Turn(signal);
    while (this.#end < end) {
      if (!this.#advance()) return undefined;
      await turn.take();
    }
    const pieces = this.#piecesOf(start, end);
    if (pieces === undefined) return undefined;
    const range = Buffer.allocUnsafeSlow(size);
    for (const piece of pieces) {
      const from = Math.max(start, piece.start);
      const target = range.subarray(from - start, Math.min(end, piece.end) - start);
      if ('bytes' in piece) target.set(piece.bytes.subarray(from - piece.start).subarray(0, target.length));
      else readFile(piece.file, from - piece.start, target);
      await turn.take();
    }
    return range;
  }

  /** Walks on; false at the end. */
  #advance(): boolean {
    const { value } = this.#walk.next();
    if (value === undefined) return false;
    const start = this.#end;
    this.#end += 'bytes' in value ? value.bytes.length : value.size;
    this.#pieces.push({ ...value, start, end: this.#end });
    // By halves, so that it costs nothing to speak of.
    if (this.#pieces.length > this.#maxPieces) this.#pieces = this.#pieces.slice(this.#pieces.length >> 1);
    return true;
  }

  #piecesOf(start: number, end: number): Piece[] | undefined {
    let [first, past] = [0, this.#pieces.length];
    while (first < past) {
      const middle = (first + past) >> 1;
      if ((this.#pieces[middle] as Piece).end > start) past = middle;
      else first = middle + 1;
    }
    const pieces: Piece[] = [];
    for (let at = first; at < this.#pieces.length; at++) {
      const piece = this.#pieces[at] as Piece;
      if (piece.start >= end) break;
      pieces.push(piece);
    }
    return (pieces[0]?.start ?? Infinity) <= start ? pieces : undefined;
  }
}

function walkPieces(path: string): Generator<Content, void> {
  const out = new ChunkWriter({ reuse: true });
  const take = (): Content => ({ bytes: Buffer.from(out.take()) });
  return walkTree<Content>(path, out, {
    take,
    *file(file) {
      const stat = attempt(file, () => lstatSync(file));
      if (!stat.isFile()) throw failed(file, 'it changed while it was read');
      const { size, mode } = stat;
      out.beginFile({ executable: (mode & 0o100) !== 0, size });
      if (size > 0) {
        yield take();
        yield { file, size };
      }
      out.endFile(size);
    },
  });
}

/** Fills `target` with the contents of a file from `position` on. */
function readFile(path: Buffer, position: number, target: Uint8Array): void {
  const fd = attempt(path, () => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  try {
    for (let done = 0; done < target.length;) {
      const read = attempt(path, () => readSync(fd, target, done, target.length - done, position + done));
      if (read === 0) throw failed(path, 'it became shorter while it was read');
      done += read;
    }
  } finally {
    closeSync(fd);
  }
}

/** Time in which nobody else gets theirs. */
class Turn {
  readonly #signal: AbortSignal | undefined;
  #end = performance.now() + TIME_SLICE;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
    signal?.throwIfAborted();
  }

  async take(): Promise<void> {
    if (performance.now() < this.#end) return;
    await setImmediate();
    this.#signal?.throwIfAborted();
    this.#end = performance.now() + TIME_SLICE;
  }
}
