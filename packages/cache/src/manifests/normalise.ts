import { type PathInfo, storePathHash } from '@nex-nix/nix';
import { HASH_PART_SIZE, HashScanner } from './hash-scanner.ts';
import { encodeMentions, MAX_MENTIONS, type Mention, type Mentions } from './mentions.ts';

/** The end of what came that is held back: a mention may begin in it. */
const HELD = HASH_PART_SIZE - 1;
const NOTHING = new Uint8Array();

/**
 * Puts a filler of 32 zero bytes in place of each mention of a path in its own NAR, and of the paths that it refers to. What
 * is left is the same for every build that differs in the hashes of store paths only.
 */
export class Normaliser {
  readonly #hashes: readonly string[];
  readonly #scanner: HashScanner;
  readonly #mentions: Mention[] = [];
  readonly #max: number;
  #memory = NOTHING;

  /** @param max - how many mentions are replaced; the rest of the NAR is left as it is. */
  constructor({ storePath, references }: Pick<PathInfo, 'storePath' | 'references'>, max = MAX_MENTIONS) {
    this.#hashes = [...new Set([storePath, ...references].map(storePathHash))];
    this.#scanner = new HashScanner(this.#hashes);
    this.#max = max;
  }

  /** What was replaced, once {@link normalise} has come to its end; undefined when that is nothing. */
  mentions(): Mentions | undefined {
    return encodeMentions(this.#mentions);
  }

  /**
   * The NAR with fillers. A piece of it may change once the next one is asked for, and so may one of `source`, which is left as
   * it is: what has no mentions is handed on as views of it. To be called once.
   */
  async *normalise(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    let held: Uint8Array = NOTHING;
    let heldAt = 0;
    for await (const piece of source) {
      const isTiny = piece.length < HELD;
      const bytes = isTiny ? Buffer.concat([held, piece]) : piece;
      const before = isTiny ? NOTHING : held;
      const starts = this.#find(before, bytes, heldAt);
      const lastEnd = (starts.at(-1) ?? -HASH_PART_SIZE) + HASH_PART_SIZE;
      const size = before.length + bytes.length;
      const done = Math.max(lastEnd, size - (this.#isFull ? 0 : HELD), 0);
      heldAt += done;
      if (starts.length > 0) {
        const blanked = this.#blanked(before, bytes, starts);
        held = Uint8Array.from(blanked.subarray(done));
        yield blanked.subarray(0, done);
      } else {
        // There is nothing in `before` unless `bytes` are as many as are held back.
        held = Uint8Array.from(bytes.subarray(done - before.length));
        if (before.length > 0) yield before;
        if (done > before.length) yield bytes.subarray(0, done - before.length);
      }
    }
    if (held.length > 0) yield held;
  }

  /** `before` and `bytes` with fillers at `starts`, in memory that is used again. */
  #blanked(before: Uint8Array, bytes: Uint8Array, starts: readonly number[]): Uint8Array {
    const size = before.length + bytes.length;
    if (this.#memory.length < size) this.#memory = new Uint8Array(size);
    this.#memory.set(before);
    this.#memory.set(bytes, before.length);
    for (const start of starts) this.#memory.fill(0, start, start + HASH_PART_SIZE);
    return this.#memory.subarray(0, size);
  }

  get #isFull(): boolean {
    return this.#mentions.length >= this.#max;
  }

  /** Where mentions begin in `before` and `bytes` after it, which begin at `offset` of the NAR. */
  #find(before: Uint8Array, bytes: Uint8Array, offset: number): number[] {
    const starts: number[] = [];
    const add = (start: number) => {
      starts.push(start);
      this.#mentions.push({ start: offset + start, hash: this.#hashes[this.#scanner.index] as string });
      return start + HASH_PART_SIZE;
    };
    let from = before.length;
    if (before.length > 0 && !this.#isFull) {
      // One at most: it takes more than half of this.
      const seam = Buffer.concat([before, bytes.subarray(0, HELD)]);
      const start = this.#scanner.find(seam, 0);
      if (start !== -1) from = add(start);
    }
    while (!this.#isFull) {
      const start = this.#scanner.find(bytes, from - before.length);
      if (start === -1) break;
      from = add(start + before.length);
    }
    return starts;
  }
}
