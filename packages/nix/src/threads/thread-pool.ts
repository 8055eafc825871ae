import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** More threads of a kind than this would wait for the disk or the network. */
export const MAX_THREADS = Math.min(4, availableParallelism());

/** One piece of work in another thread; disposing of it makes the thread forget it. */
export interface ThreadJob extends Disposable {
  /** Hands `request` and the memory in `transfer` over. @throws {@link ThreadError} when the job is given up or its thread has ended. */
  ask<Result>(request: object, transfer: ArrayBuffer[]): Promise<Result>;
  /** Gives the job up; whoever waits for an answer gets `reason` as the error. */
  cancel(reason: unknown): void;
}

/** Answers a request, handing the memory in `transfer` over. */
export type Answer = (result: unknown, transfer: ArrayBuffer[]) => void;

/** What a thread does for one job. */
export interface ThreadWork<Request> {
  handle(request: Request, answer: Answer): void;
  /** The job is over, done or given up. */
  end(): void;
}

/** A job could not be done for a reason that is not in its data. */
export class ThreadError extends Error {
  override readonly name = 'ThreadError';
}

/** With `begin` the first message of a job, with `id` a request, else the last one. */
interface Message {
  readonly job: number;
  readonly begin?: { readonly settings: unknown };
  readonly id?: number;
  readonly request?: object;
}

interface Reply {
  readonly job: number;
  readonly id: number;
  readonly result: unknown;
}

interface Waiting {
  resolve(result: never): void;
  reject(error: unknown): void;
}

/**
 * Threads that all do one kind of work, started when needed, at most `size`. They stay for later jobs, but keep the process alive only
 * while they have some.
 */
export class ThreadPool<Settings> {
  readonly #begin: (settings: Settings) => ThreadWork<never>;
  readonly #code: string;
  readonly #name: string;
  readonly #size: number;
  readonly #threads: Thread[] = [];

  /** `begin` goes to the threads as text: it may use nothing but what is in it and `process.getBuiltinModule`. */
  constructor(size: number, begin: (settings: Settings) => ThreadWork<never>) {
    // A file of its own would need another name in each way of building and running this package.
    this.#begin = begin;
    this.#code = `(${serveParent.toString()})(${begin.toString()})`;
    this.#name = begin.name;
    this.#size = size;
  }

  get hasThreads(): boolean {
    return this.#threads.length > 0;
  }

  /** Whether a job would have a thread of its own. */
  get hasRoom(): boolean {
    return this.#threads.length < this.#size || this.#threads.some(({ jobs }) => jobs === 0);
  }

  /** Begins a job in this thread. */
  beginHere(settings: Settings): ThreadWork<object> {
    return this.#begin(settings);
  }

  /** Begins a job in the thread that has the least to do. */
  startJob(settings: Settings): ThreadJob {
    const idlest = this.#threads.toSorted((a, b) => a.jobs - b.jobs)[0];
    if (idlest !== undefined && (idlest.jobs === 0 || this.#threads.length >= this.#size))
      return idlest.startJob(settings);
    const thread = new Thread(this.#code, this.#name, () => this.#threads.splice(this.#threads.indexOf(thread), 1));
    this.#threads.push(thread);
    return thread.startJob(settings);
  }
}

class Thread {
  readonly #worker: Worker;
  readonly #jobs = new Map<number, Map<number, Waiting>>();
  #lastId = 0;
  #failure: ThreadError | undefined;

  constructor(code: string, name: string, onEnd: () => void) {
    this.#worker = new Worker(code, { eval: true, execArgv: [], name });
    this.#worker.on('message', ({ job, id, result }: Reply) => {
      const waiting = this.#jobs.get(job);
      waiting?.get(id)?.resolve(result as never);
      waiting?.delete(id);
    });
    let cause: unknown;
    this.#worker.on('error', (error) => (cause = error));
    this.#worker.on('exit', () => {
      onEnd();
      this.#failure = new ThreadError(`The thread "${name}" has ended in the middle of its work`, { cause });
      for (const waiting of this.#jobs.values()) rejectAll(waiting, this.#failure);
    });
    this.#worker.unref();
  }

  /** Jobs under way. */
  get jobs(): number {
    return this.#jobs.size;
  }

  startJob(settings: unknown): ThreadJob {
    const job = ++this.#lastId;
    const waiting = new Map<number, Waiting>();
    this.#jobs.set(job, waiting);
    this.#worker.ref();
    this.#post({ job, begin: { settings } }, []);
    const cancel = (reason: unknown) => {
      if (!this.#jobs.delete(job)) return;
      rejectAll(waiting, reason);
      this.#post({ job }, []);
      if (this.jobs === 0) this.#worker.unref();
    };
    return {
      ask: (request, transfer) => this.#ask({ job, id: ++this.#lastId, request }, transfer),
      cancel,
      [Symbol.dispose]: () => cancel(new ThreadError('The work was given up')),
    };
  }

  #ask<Result>(message: Message & { id: number }, transfer: ArrayBuffer[]): Promise<Result> {
    const answer = Promise.withResolvers<Result>();
    const waiting = this.#jobs.get(message.job);
    if (this.#failure !== undefined) answer.reject(this.#failure);
    else if (waiting === undefined) answer.reject(new ThreadError('The work was given up'));
    else {
      waiting.set(message.id, answer);
      this.#post(message, transfer);
    }
    return answer.promise;
  }

  #post(message: Message, transfer: ArrayBuffer[]): void {
    this.#worker.postMessage(message, transfer);
  }
}

function rejectAll(waiting: Map<number, Waiting>, error: unknown): void {
  for (const answer of waiting.values()) answer.reject(error);
  waiting.clear();
}

/** What the thread runs. */
function serveParent(begin: (settings: unknown) => ThreadWork<object>): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const jobs = new Map<number, ThreadWork<object>>();
  parentPort?.on('message', (message: Message) => {
    const { job, id, request } = message;
    if (message.begin !== undefined) jobs.set(job, begin(message.begin.settings));
    else if (request !== undefined)
      jobs.get(job)?.handle(request, (result, transfer) => parentPort.postMessage({ job, id, result }, transfer));
    else {
      jobs.get(job)?.end();
      jobs.delete(job);
    }
  });
}
