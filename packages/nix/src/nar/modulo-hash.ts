import { createHash, type Hash } from 'node:crypto';

/** Most mentions whose places are kept: 8 MiB of them. */
const MENTIONS_MAX = 1_000_000;

/**
 * The hash of content that mentions its own store path: each mention of the path's hash part counts as zeros, since the path
 * is known only after the hash. Constant memory.
 *
 * Nix up to 2.16, and again since 2.35, adds `|<offset>` for each mention to what is hashed; the versions between do not.
 */
export class ModuloHash {
  readonly #hash: Hash;
  readonly #part: Buffer;
  readonly #zeros: Buffer;
  /** Where the mentions are, in bytes from the start. */
  readonly #mentions: number[] = [];
  #mentionCount = 0;
  /** The end of what came before, in which a mention may begin. */
  #tail: Buffer = Buffer.alloc(0);
  /** Bytes before the tail. */
  #before = 0;

  /** @param hashPart the 32 symbols of the path. */
  constructor(algorithm: string, hashPart: string) {
    this.#hash = createHash(algorithm);
    this.#part = Buffer.from(hashPart, 'latin1');
    this.#zeros = Buffer.alloc(this.#part.length);
  }

  update(chunk: Uint8Array): void {
    const bytes = Buffer.concat([this.#tail, chunk]);
    let done = 0;
    for (;;) {
      const at = bytes.indexOf(this.#part, done);
      if (at === -1) break;
      this.#hash.update(bytes.subarray(done, at)).update(this.#zeros);
      if (this.#mentionCount++ < MENTIONS_MAX) this.#mentions.push(this.#before + at);
      done = at + this.#part.length;
    }
    const tail = Math.max(done, bytes.length - this.#part.length + 1);
    this.#hash.update(bytes.subarray(done, tail));
    this.#tail = Buffer.from(bytes.subarray(tail));
    this.#before += tail;
  }

  /** The digests of both forms. With more than a million mentions the one with their places is missing. Ends the hash. */
  digests(): Buffer[] {
    this.#hash.update(this.#tail);
    const without = this.#hash.copy().digest();
    if (this.#mentionCount > MENTIONS_MAX) return [without];
    for (const offset of this.#mentions) this.#hash.update(`|${offset}`);
    return [this.#hash.digest(), without];
  }
}
