/** Bytes of the hash part of a store path. */
export const HASH_PART_SIZE = 32;

/** How far the window moves on past a pair of bytes that is in none of the hash parts. */
const LONGEST_SHIFT = HASH_PART_SIZE - 1;

/**
 * Finds the hash parts of store paths in bytes.
 *
 * Looks at the last two bytes of a window of 32 and, since they rarely stand in a hash part, mostly moves on by 31 (Wu and
 * Manber, A fast algorithm for multi-pattern searching, 1994).
 */
export class HashScanner {
  readonly #hashes: ReadonlyMap<string, number>;
  /** For each pair of bytes, how far it is at least from the end of a hash part. */
  readonly #shifts = new Uint8Array(0x1_0000).fill(LONGEST_SHIFT);
  /** Whether a hash part may begin with four bytes of this {@link digest}: spares most look-ups where many end alike. */
  readonly #beginnings = new Uint8Array(0x1_0000);
  /** Which hash part {@link find} found. */
  index = -1;

  /** @param hashes - 32 ASCII symbols each. */
  constructor(hashes: readonly string[]) {
    this.#hashes = new Map(hashes.map((hash, index) => [hash, index]));
    for (const hash of hashes) {
      this.#beginnings[digest(Buffer.from(hash, 'latin1'), 0)] = 1;
      for (let at = 1; at < HASH_PART_SIZE; at++) {
        const pair = hash.charCodeAt(at - 1) | (hash.charCodeAt(at) << 8);
        this.#shifts[pair] = Math.min(this.#shifts[pair] as number, LONGEST_SHIFT - at);
      }
    }
  }

  /** Where the first hash part begins that is whole in `bytes` from `from` on, or -1; sets {@link index}. */
  find(bytes: Uint8Array, from: number): number {
    const shifts = this.#shifts;
    const beginnings = this.#beginnings;
    for (let last = from + HASH_PART_SIZE - 1; last < bytes.length;) {
      const shift = shifts[(bytes[last - 1] as number) | ((bytes[last] as number) << 8)] as number;
      if (shift > 0) {
        last += shift;
        continue;
      }
      const start = last + 1 - HASH_PART_SIZE;
      const index = beginnings[digest(bytes, start)] === 1 ? this.#hashes.get(text(bytes, start)) : undefined;
      if (index !== undefined) {
        this.index = index;
        return start;
      }
      last++;
    }
    return -1;
  }
}

function text(bytes: Uint8Array, start: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, HASH_PART_SIZE).toString('latin1');
}

/** 16 bits that depend on the four bytes from `start` on. */
function digest(bytes: Uint8Array, start: number): number {
  const low = (bytes[start] as number) | ((bytes[start + 1] as number) << 8);
  const high = (bytes[start + 2] as number) | ((bytes[start + 3] as number) << 8);
  // A multiplication by an odd number mixes into the high bits (Knuth).
  return Math.imul(low | (high << 16), 0x9e3779b1) >>> 16;
}
