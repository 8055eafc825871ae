import { type NarHash, narHashOf } from '../formats/hash.ts';
import { DeferredJob } from '../threads/deferred-job.ts';
import { MAX_THREADS, ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';

/** A piece to be hashed, or without `block` the wish for the digest. */
interface Request {
  readonly block?: SharedArrayBuffer;
  readonly length?: number;
}

const threads = new ThreadPool(MAX_THREADS, hashBlocks);

/** The hash of a NAR, computed by another thread if the NAR is large. */
export class NarHasher implements Disposable {
  readonly #job = new DeferredJob(threads, undefined);

  /** Hashes the first `length` bytes of `block`, which must not change until the promise is fulfilled. */
  write(block: SharedArrayBuffer, length: number): Promise<void> {
    return this.#job.ask({ block, length } satisfies Request);
  }

  /** The hash of everything; comes last. */
  async digest(): Promise<NarHash> {
    const digest = this.#job.ask<Uint8Array>({} satisfies Request);
    this.#job.finish();
    return narHashOf(await digest);
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
