import { availableParallelism } from 'node:os';
import { ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';

/** More threads than this would wait for the disk or the network. */
const MAX_THREADS = 4;

/** A piece to be hashed, or without `block` the wish for the digest. */
interface Request {
  readonly block?: ArrayBuffer;
  readonly length?: number;
}

/** SHA-256 by another thread. Blocks are handed over, not copied, and come back to be filled again. */
export interface HashJob extends Disposable {
  /** Hashes the first `length` bytes of `block`, which is not usable until it comes back as the result. */
  write(block: ArrayBuffer, length: number): Promise<ArrayBuffer>;
  /** The digest of everything written. */
  digest(): Promise<Uint8Array>;
}

const threads = new ThreadPool(Math.min(MAX_THREADS, availableParallelism()), hashInThread);

/** Begins a hash in another thread; undefined on a machine with one core. */
export function startHashJob(): HashJob | undefined {
  if (availableParallelism() === 1) return undefined;
  const job = threads.startJob(undefined);
  return {
    write: (block, length) => job.ask({ block, length } satisfies Request, [block]),
    digest: () => job.ask({} satisfies Request, []),
    [Symbol.dispose]: () => job[Symbol.dispose](),
  };
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function hashInThread(): ThreadWork<Request> {
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256');
  return {
    handle({ block, length }, answer) {
      if (block === undefined) return answer(hash.digest(), []);
      hash.update(new Uint8Array(block, 0, length));
      answer(block, [block]);
    },
    end() {},
  };
}
