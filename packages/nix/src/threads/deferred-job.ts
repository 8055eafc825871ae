import { availableParallelism } from 'node:os';
import { ThreadError, type ThreadJob, type ThreadPool, type ThreadWork } from './thread-pool.ts';

/** Up to this many requests are done here: to ask another thread, or even to start one, would take longer. */
const MAX_KEPT = 3;
const MAX_KEPT_WITH_THREADS = 1;

/** A job that is done here if it is small, else in another thread. Memory in its requests is shared, not handed over. */
export class DeferredJob<Settings> implements Disposable {
  readonly #pool: ThreadPool<Settings>;
  readonly #settings: Settings;
  /** Requests, as long as it is open where they are done. */
  readonly #kept: { readonly request: object; readonly answer: PromiseWithResolvers<never> }[] = [];
  #there: ThreadJob | undefined;
  #here: ThreadWork<object> | undefined;

  constructor(pool: ThreadPool<Settings>, settings: Settings) {
    this.#pool = pool;
    this.#settings = settings;
  }

  /** Whether another thread does it. */
  get isElsewhere(): boolean {
    return this.#there !== undefined;
  }

  /** Requests are done in order; one that is kept waits for others, or for {@link finish}. */
  ask<Result>(request: object): Promise<Result> {
    if (this.#there !== undefined) return this.#there.ask(request, []);
    const answer = Promise.withResolvers<never>();
    this.#kept.push({ request, answer });
    const max = this.#pool.hasThreads ? MAX_KEPT_WITH_THREADS : MAX_KEPT;
    if (this.#here !== undefined) this.finish();
    else if (this.#kept.length > max) this.begin();
    return answer.promise;
  }

  /** There is much to do: it begins. */
  begin(): void {
    if (this.#there !== undefined) return;
    if (availableParallelism() === 1) return this.finish();
    const there = this.#pool.startJob(this.#settings);
    this.#there = there;
    for (const { request, answer } of this.#kept.splice(0))
      there.ask<never>(request, []).then(answer.resolve, answer.reject);
  }

  /** Nothing more is asked for: does here what no other thread was asked for. */
  finish(): void {
    if (this.#there !== undefined) return;
    this.#here ??= this.#pool.beginHere(this.#settings);
    for (const { request, answer } of this.#kept.splice(0))
      this.#here.handle(request, (result) => answer.resolve(result as never));
  }

  /** Rejects what is kept, so that nobody waits for it; another thread goes on with what it was asked for. */
  abandon(): void {
    for (const { answer } of this.#kept.splice(0)) answer.reject(new ThreadError('The work was given up'));
  }

  [Symbol.dispose](): void {
    this.abandon();
    this.#there?.[Symbol.dispose]();
    this.#here?.end();
  }
}
