import { createHash, type Hash } from 'node:crypto';
import { type NarHash, narHashOf } from '../formats/hash.ts';
import { BLOCK_SIZE, returnBlock, takeBlock } from '../threads/blocks.ts';
import { type HashJob, startHashJob } from './hash-thread.ts';

/** Up to this many blocks are hashed here: asking another thread, or even starting one, would take longer. */
const MAX_BLOCKS_HERE = 4;
/** How far whoever writes may be ahead of the other thread. */
const MAX_BLOCKS_THERE = 4;

/** The hash of a NAR, computed by another thread if the NAR is large. */
export class NarHasher implements Disposable {
  #block: ArrayBuffer | undefined;
  #used = 0;
  /** Full blocks, as long as it is open where they are hashed. */
  readonly #kept: ArrayBuffer[] = [];
  #here: Hash | undefined;
  #there: HashJob | undefined;
  /** Blocks at the other thread, which come back in this order. */
  readonly #lent: Promise<ArrayBuffer>[] = [];

  /** Copies the next bytes of the NAR: they may change once the promise is fulfilled. */
  async update(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      this.#block ??= await this.#takeBlock();
      const part = bytes.subarray(at, at + BLOCK_SIZE - this.#used);
      new Uint8Array(this.#block).set(part, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === BLOCK_SIZE) this.#passOn(this.#block);
    }
  }

  /** The hash of everything; comes last. */
  async digest(): Promise<NarHash> {
    if (this.#there === undefined) {
      const hash = this.#hashHere();
      if (this.#block !== undefined) hash.update(new Uint8Array(this.#block, 0, this.#used));
      return narHashOf(hash.digest());
    }
    if (this.#block !== undefined) this.#lend(this.#there, this.#block, this.#used);
    this.#block = undefined;
    const digest = await this.#there.digest();
    for (const block of await Promise.all(this.#lent)) returnBlock(block);
    return narHashOf(digest);
  }

  /** Ends the work of the other thread. */
  [Symbol.dispose](): void {
    this.#there?.[Symbol.dispose]();
    if (this.#block !== undefined) this.#kept.push(this.#block);
    for (const block of this.#kept.splice(0)) returnBlock(block);
    this.#block = undefined;
  }

  async #takeBlock(): Promise<ArrayBuffer> {
    const lent = this.#lent.length >= MAX_BLOCKS_THERE ? this.#lent.shift() : undefined;
    return lent ?? takeBlock();
  }

  #passOn(block: ArrayBuffer): void {
    this.#block = undefined;
    this.#used = 0;
    this.#kept.push(block);
    if (this.#there === undefined && this.#kept.length > MAX_BLOCKS_HERE) {
      if (this.#here === undefined) this.#there = startHashJob();
      if (this.#there === undefined) this.#hashHere();
    }
    if (this.#there === undefined) return;
    for (const full of this.#kept.splice(0)) this.#lend(this.#there, full, BLOCK_SIZE);
  }

  #lend(job: HashJob, block: ArrayBuffer, length: number): void {
    const lent = job.write(block, length);
    // Told to whoever waits for the block or the digest; until somebody does, it is not unhandled.
    lent.catch(() => undefined);
    this.#lent.push(lent);
  }

  #hashHere(): Hash {
    this.#here ??= createHash('sha256');
    for (const full of this.#kept.splice(0)) {
      this.#here.update(new Uint8Array(full));
      returnBlock(full);
    }
    return this.#here;
  }
}
