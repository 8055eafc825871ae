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

/** Puts the mentions of a NAR into its chunks, which come one after the other. */
export class MentionRestorer {
  readonly #mentions: Generator<Mention, void>;
  #next: Mention | undefined;
  #at = 0;

  constructor(mentions: Mentions, narSize: number) {
    this.#mentions = decodeMentions(mentions, narSize);
    this.#advance();
  }

  /**
   * The next chunk with hash parts in place of fillers. `bytes` are left as they are: others may have them.
   * @throws `RangeError` when there is no filler
   */
  restore(bytes: Uint8Array): Uint8Array {
    const from = this.#at;
    const to = from + bytes.length;
    this.#at = to;
    if (this.#next === undefined || this.#next.start >= to) return bytes;
    const restored = Buffer.from(bytes);
    for (let next: Mention | undefined = this.#next; next !== undefined && next.start < to; next = this.#next) {
      const { start, hash } = next;
      const end = start + HASH_PART_SIZE;
      // A chunk may begin or end within a mention.
      const [first, last] = [Math.max(start, from), Math.min(end, to)];
      const part = restored.subarray(first - from, last - from);
      replaceFiller(part, hash.slice(first - start, last - start));
      if (end > to) break;
      this.#advance();
    }
    return restored;
  }

  #advance(): void {
    this.#next = this.#mentions.next().value ?? undefined;
  }
}

/**
 * Writes a hash part, or a piece of one, where there is a filler.
 * @throws `RangeError` when there is none
 */
export function replaceFiller(filler: Buffer, text: string): void {
  if (filler.some((byte) => byte !== 0)) throw new RangeError('a mention is where its chunk has no filler');
  filler.write(text, 'latin1');
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
