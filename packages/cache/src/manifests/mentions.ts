import { HASH_PART_SIZE } from './hash-scanner.ts';

/** Most mentions of one NAR: their table stays far below what a message holds, beside the chunks. Further ones stay as they are. */
export const MAX_MENTIONS = 65_536;

/** Where the hash parts of store paths were in a NAR whose chunks have a filler there: zeros, which hold no cut point. */
export interface Mentions {
  /** The hash parts, sorted. */
  readonly hashes: readonly string[];
  readonly count: number;
  /**
   * For each mention, in order: bytes since the end of the one before it (or since the start of the NAR), and which of
   * {@link hashes} it is. Both as LEB128: seven bits a byte, lowest first, the high bit set in all but the last byte.
   */
  readonly table: Uint8Array;
}

/** One mention. */
export interface Mention {
  /** Offset in the NAR. */
  readonly start: number;
  readonly hash: string;
}

/** The table of `mentions`, in order and apart from each other; undefined when there is none. */
export function encodeMentions(mentions: readonly Mention[]): Mentions | undefined {
  if (mentions.length === 0) return undefined;
  const hashes = [...new Set(mentions.map(({ hash }) => hash))].sort();
  const indexes = new Map(hashes.map((hash, index) => [hash, index]));
  const table: number[] = [];
  let end = 0;
  for (const { start, hash } of mentions) {
    pushNumber(table, start - end);
    pushNumber(table, indexes.get(hash) as number);
    end = start + HASH_PART_SIZE;
  }
  return { hashes, count: mentions.length, table: Uint8Array.from(table) };
}

/** The mentions of a table. What makes no sense is thrown as a `RangeError`, whose message begins with "a mention". */
export function* decodeMentions({ hashes, count, table }: Mentions, narSize: number): Generator<Mention, void> {
  const reader = new NumberReader(table);
  let end = 0;
  for (let i = 0; i < count; i++) {
    const start = end + reader.next();
    const hash = hashes[reader.next()];
    end = start + HASH_PART_SIZE;
    if (hash === undefined) throw new RangeError('a mention is of a path that it does not list');
    if (end > narSize) throw new RangeError('a mention lies beyond the end of the NAR');
    yield { start, hash };
  }
  if (!reader.isAtEnd) throw new RangeError('a mention more than it counts is in its table');
}

/** Puts the mentions of a NAR into pieces of it, and takes them out again. The table is read when a piece is first looked at. */
export class MentionPlaces {
  readonly #mentions: Mentions | undefined;
  readonly #narSize: number;
  #places: { readonly starts: Float64Array; readonly hashes: Uint32Array } | undefined;

  /** @param manifest - the mentions of a NAR, if it has any, and its size in bytes. */
  constructor({ mentions, narSize }: { readonly mentions?: Mentions | undefined; readonly narSize: number }) {
    this.#mentions = mentions;
    this.#narSize = narSize;
  }

  /**
   * Whether there is a mention, or a part of one, in the NAR from `start` to before `end`.
   * @throws `RangeError` when the table makes no sense
   */
  isIn(start: number, end: number): boolean {
    return this.#partsIn(start, end).next().done !== true;
  }

  /**
   * `bytes`, which are the chunk that begins at `start`, with hash parts in place of fillers. They themselves are left as they
   * are: others may have them.
   * @throws `RangeError` when there is no filler, or the table makes no sense
   */
  restore(bytes: Uint8Array, start: number): Uint8Array {
    let restored: Buffer | undefined;
    for (const { from, text } of this.#partsIn(start, start + bytes.length)) {
      restored ??= Buffer.from(bytes);
      const filler = restored.subarray(from, from + text.length);
      if (filler.some((byte) => byte !== 0)) throw new RangeError('a mention is where its chunk has no filler');
      filler.write(text, 'latin1');
    }
    return restored ?? bytes;
  }

  /**
   * Puts fillers in place of hash parts into `bytes`, which are what the NAR has from `start` on.
   * @throws `RangeError` when the table makes no sense
   */
  blank(bytes: Uint8Array, start: number): void {
    for (const { from, text } of this.#partsIn(start, start + bytes.length)) bytes.fill(0, from, from + text.length);
  }

  /** The parts of mentions that lie between two offsets: a piece may begin or end within one. `from` is counted from `start`. */
  *#partsIn(start: number, end: number): Generator<{ from: number; text: string }, void> {
    if (this.#mentions === undefined) return;
    const { starts, hashes } = (this.#places ??= readPlaces(this.#mentions, this.#narSize));
    for (let i = firstAfter(starts, start - HASH_PART_SIZE); i < starts.length; i++) {
      const at = starts[i] as number;
      if (at >= end) return;
      const hash = this.#mentions.hashes[hashes[i] as number] as string;
      yield { from: Math.max(at, start) - start, text: hash.slice(Math.max(0, start - at), end - at) };
    }
  }
}

/** Numbers, as objects would take ten times the memory. */
function readPlaces(mentions: Mentions, narSize: number) {
  const starts = new Float64Array(mentions.count);
  const hashes = new Uint32Array(mentions.count);
  const indexes = new Map(mentions.hashes.map((hash, index) => [hash, index]));
  let count = 0;
  for (const { start, hash } of decodeMentions(mentions, narSize)) {
    starts[count] = start;
    hashes[count++] = indexes.get(hash) as number;
  }
  return { starts, hashes };
}

/** Index of the first of ascending numbers that is above `limit`. */
function firstAfter(ascending: Float64Array, limit: number): number {
  let [first, past] = [0, ascending.length];
  while (first < past) {
    const middle = (first + past) >> 1;
    if ((ascending[middle] as number) > limit) past = middle;
    else first = middle + 1;
  }
  return first;
}

function pushNumber(table: number[], value: number): void {
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) table.push((rest % 0x80) | 0x80);
  table.push(rest);
}

class NumberReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new RangeError('a mention is cut off');
      value += (byte & 0x7f) * scale;
      if (!Number.isSafeInteger(value)) throw new RangeError('a mention lies beyond the end of the NAR');
      if (byte < 0x80) {
        if (byte === 0 && scale > 1) throw new RangeError('a mention has a number with zeros before it');
        return value;
      }
    }
  }
}
