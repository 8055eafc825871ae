import { STORE_DIR } from '@nex-nix/nix';
import { HASH_PART_SIZE } from '../manifests/hash-scanner.ts';
import { encodeMentions, MAX_MENTIONS, type Mention, type Mentions } from '../manifests/mentions.ts';

const PREFIX = Buffer.from(`${STORE_DIR}/`);
/** What follows the hash part of a store path. */
const DASH = 0x2d;
/** Of a whole mention, with what is before and after its hash part. */
const SPAN = PREFIX.length + HASH_PART_SIZE + 1;
/** Different hash parts of one NAR: their list stays far below what a message holds. */
const MAX_HASHES = 4096;
const HASH_PART = /^[0-9a-df-np-sv-z]{32}$/;

/**
 * Puts a filler of 32 zero bytes in place of the hash part of each store path that is spelled out in a NAR,
 * `/nix/store/<hash part>-`, as `Normaliser` does where the references are known. Over HTTP they are told after the NAR. They
 * are not needed: a manifest says what is to be put back where, whatever it is. Only hash parts that stand alone are missed.
 */
export class UploadNormaliser {
  readonly #mentions: Mention[] = [];
  readonly #hashes = new Set<string>();

  /** What was replaced, once {@link normalise} has come to its end; undefined when that is nothing. */
  mentions(): Mentions | undefined {
    return encodeMentions(this.#mentions);
  }

  /** The NAR with fillers; pieces of `source` stay as they are. To be called once. */
  async *normalise(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    let held = Buffer.alloc(0);
    let offset = 0;
    for await (const piece of source) {
      const bytes = Buffer.concat([held, piece]);
      // A mention may begin in the end of what came.
      const done = Math.max(this.#blank(bytes, offset), bytes.length - SPAN + 1, 0);
      if (done > 0) yield bytes.subarray(0, done);
      held = bytes.subarray(done);
      offset += done;
    }
    if (held.length > 0) yield held;
  }

  /** Blanks what is whole in `bytes`, which begin at `offset` of the NAR. @returns where the last mention ends. */
  #blank(bytes: Buffer, offset: number): number {
    let end = 0;
    for (let at = bytes.indexOf(PREFIX); at !== -1; at = bytes.indexOf(PREFIX, at + PREFIX.length)) {
      const start = at + PREFIX.length;
      const next = start + HASH_PART_SIZE;
      if (bytes[next] !== DASH) continue;
      const hash = bytes.toString('latin1', start, next);
      if (!HASH_PART.test(hash) || !this.#note({ start: offset + start, hash })) continue;
      bytes.fill(0, start, next);
      end = next;
    }
    return end;
  }

  /** @returns false when there are too many. */
  #note(mention: Mention): boolean {
    if (this.#mentions.length >= MAX_MENTIONS) return false;
    if (this.#hashes.size >= MAX_HASHES && !this.#hashes.has(mention.hash)) return false;
    this.#hashes.add(mention.hash);
    this.#mentions.push(mention);
    return true;
  }
}
