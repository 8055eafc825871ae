import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** One core is left to whoever hashes; more threads than this would wait for the disk or the network. */
const MAX_THREADS = Math.min(4, availableParallelism() - 1);

/** A piece to be hashed, or without `block` the wish for the digest. */
interface Request {
  readonly job: number;
  readonly block?: ArrayBuffer;
  readonly length?: number;
}

/** The block of a request after it was hashed, or the digest. Those of one job come in the order of the requests. */
interface Reply {
  readonly job: number;
  readonly result: ArrayBuffer | Uint8Array;
}

interface Waiting {
  resolve(result: never): void;
  reject(error: unknown): void;
}

/** SHA-256 by another thread. Blocks are handed over, not copied, and come back to be filled again. */
export interface HashJob extends Disposable {
  /** Hashes the first `length` bytes of `block`, which is not usable until it comes back as the result. */
  write(block: ArrayBuffer, length: number): Promise<ArrayBuffer>;
  /** The digest of everything written. */
  digest(): Promise<Uint8Array>;
}

const threads: HashThread[] = [];

/** Begins a hash in the thread that has the least to do, starting one when all have; undefined on a machine with one core. */
export function startHashJob(): HashJob | undefined {
  const idlest = threads.toSorted((a, b) => a.jobs - b.jobs)[0];
  if (idlest !== undefined && (idlest.jobs === 0 || threads.length >= MAX_THREADS)) return idlest.startJob();
  if (MAX_THREADS < 1) return undefined;
  const thread = new HashThread(() => threads.splice(threads.indexOf(thread), 1));
  threads.push(thread);
  return thread.startJob();
}

/** A thread that stays for later hashes, but keeps the process alive only while it has some. */
class HashThread {
  // As text: a file of its own would need another name in each way of building and running this package.
  readonly #worker = new Worker(`(${hashForParent.toString()})()`, { eval: true, execArgv: [] });
  readonly #waiting = new Map<number, Waiting[]>();
  #lastJob = 0;
  #failure: Error | undefined;

  constructor(onEnd: () => void) {
    this.#worker.on('message', ({ job, result }: Reply) =>
      this.#waiting
        .get(job)
        ?.shift()
        ?.resolve(result as never),
    );
    let cause: unknown;
    this.#worker.on('error', (error) => (cause = error));
    this.#worker.on('exit', () => {
      onEnd();
      this.#failure = new Error('The hashing thread has ended', { cause });
      for (const waiting of this.#waiting.values()) for (const answer of waiting) answer.reject(this.#failure);
    });
    this.#worker.unref();
  }

  /** Hashes under way. */
  get jobs(): number {
    return this.#waiting.size;
  }

  startJob(): HashJob {
    const job = ++this.#lastJob;
    const waiting: Waiting[] = [];
    this.#waiting.set(job, waiting);
    this.#worker.ref();
    const ask = <T>(request: Request, transfer: ArrayBuffer[]): Promise<T> => {
      const answer = Promise.withResolvers<T>();
      if (this.#failure === undefined) waiting.push(answer);
      else answer.reject(this.#failure);
      this.#worker.postMessage(request, transfer);
      return answer.promise;
    };
    return {
      write: (block, length) => ask({ job, block, length }, [block]),
      digest: () => ask({ job }, []),
      [Symbol.dispose]: () => {
        if (!this.#waiting.delete(job)) return;
        for (const answer of waiting) answer.reject(new Error('The hash was given up'));
        // So that the thread forgets what it has of it; after the digest that is nothing.
        this.#worker.postMessage({ job } satisfies Request, []);
        if (this.jobs === 0) this.#worker.unref();
      },
    };
  }
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function hashForParent(): void {
  const { createHash } = process.getBuiltinModule('node:crypto');
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const hashes = new Map<number, ReturnType<typeof createHash>>();
  parentPort?.on('message', ({ job, block, length }: Request) => {
    const hash = hashes.get(job) ?? createHash('sha256');
    if (block === undefined) {
      hashes.delete(job);
      parentPort.postMessage({ job, result: hash.digest() }, []);
    } else {
      hashes.set(job, hash.update(new Uint8Array(block, 0, length)));
      parentPort.postMessage({ job, result: block }, [block]);
    }
  });
}
