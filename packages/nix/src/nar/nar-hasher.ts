import { type NarHash, narHashOf } from '../formats/hash.ts';
import { BLOCK_SIZE, claimBlock, copyToBlock, returnBlock, takeBlock } from '../threads/blocks.ts';
import { DeferredJob } from '../threads/deferred-job.ts';
import { MAX_THREADS, ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';

/** A piece to be hashed, or without `block` the wish for the digest. */
interface Request {
  readonly block?: SharedArrayBuffer;
  readonly length?: number;
}

/** Blocks of {@link NarHasher.hashed} that are with the thread at a time. */
const MAX_LENT = 3;

const threads = new ThreadPool(MAX_THREADS, hashBlocks);

/** The hash of a NAR, or of another file, computed by another thread if that is large. */
export class NarHasher implements Disposable {
  readonly #job = new DeferredJob(threads, undefined);
  /** Blocks of {@link hashed} that may not have been hashed yet. */
  readonly #lent: { readonly block: SharedArrayBuffer; readonly hashed: Promise<void> }[] = [];

  /** Hashes the first `length` bytes of `block`, which must not change until the promise is fulfilled. */
  write(block: SharedArrayBuffer, length: number): Promise<void> {
    return this.#job.ask({ block, length } satisfies Request);
  }

  /**
   * Hashes all of `source` while its bytes are read on, in blocks: each is valid until the next one is asked for, and pieces of `source`
   * need not be valid longer either.
   */
  async *hashed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
    let block = takeBlock();
    let used = 0;
    const next = async () => {
      await this.#makeRoom();
      block = takeBlock();
      used = 0;
    };
    for await (const bytes of source) {
      const claimed = claimBlock(bytes);
      if (claimed !== undefined) {
        if (used > 0) {
          yield this.#lend(block, used);
          await next();
        }
        yield this.#lend(claimed, bytes.length);
        await this.#makeRoom();
        continue;
      }
      for (let at = 0; at < bytes.length;) {
        const part = bytes.subarray(at, at + BLOCK_SIZE - used);
        copyToBlock(part, block, used);
        used += part.length;
        at += part.length;
        if (used < BLOCK_SIZE) continue;
        yield this.#lend(block, used);
        await next();
      }
    }
    if (used > 0) yield this.#lend(block, used);
    else returnBlock(block);
  }

  #lend(block: SharedArrayBuffer, length: number): Buffer {
    const hashed = this.write(block, length);
    // Told to whoever waits for the block, or for the digest.
    hashed.catch(() => undefined);
    this.#lent.push({ block, hashed });
    return Buffer.from(block, 0, length);
  }

  async #makeRoom(): Promise<void> {
    if (this.#lent.length < MAX_LENT) return;
    // Otherwise it might be kept for the time being, and waited for in vain.
    this.#job.begin();
    const first = this.#lent.shift();
    await first?.hashed;
    if (first !== undefined) returnBlock(first.block);
  }

  /** The hash of everything; comes last. */
  async digest(): Promise<NarHash> {
    const digest = this.#job.ask<Uint8Array>({} satisfies Request);
    this.#job.finish();
    const hash = narHashOf(await digest);
    for (const { block } of this.#lent.splice(0)) returnBlock(block);
    return hash;
  }

  /** Ends the work of the other thread. */
  [Symbol.dispose](): void {
    this.#job[Symbol.dispose]();
  }
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function hashBlocks(): ThreadWork<Request> {
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256');
  return {
    handle({ block, length }, answer) {
      if (block === undefined) return answer(hash.digest(), []);
      hash.update(new Uint8Array(block, 0, length));
      answer(undefined, []);
    },
    end() {},
  };
}
