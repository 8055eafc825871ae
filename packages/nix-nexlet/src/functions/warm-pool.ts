import type { WarmSandbox } from '@nex-nix/sandbox';
import { NixNexletError } from '../nix-nexlet-error.ts';

/** Sandboxes that are made at the same time. */
const MAKERS = 2;
/** An invocation is not disturbed by what replaces its sandbox, unless it takes longer than this, in milliseconds. */
const REFILL_DELAY = 20;
const RETRY = { first: 1_000, longest: 60_000 } as const;

export interface WarmPoolOptions {
  /** Sandboxes that are to wait. */
  size: number;
  /** Makes the n-th sandbox of the pool. */
  make: (n: number) => Promise<WarmSandbox>;
  /** A sandbox could not be made, kept or removed, and nobody waits for it; it is tried again. */
  onFailure: (error: unknown) => void;
}

/**
 * Sandboxes that wait for an invocation each. Whoever takes one has it for itself and gives it back once, used up; another
 * one is made in its place. Together with those that are in use there are never more than `size` beyond the number of takers.
 */
export class WarmPool implements AsyncDisposable {
  readonly #options: WarmPoolOptions;
  readonly #idle = new Set<WarmSandbox>();
  /** Taken and not given back yet; resolved by that. */
  readonly #used = new Map<WarmSandbox, PromiseWithResolvers<void>>();
  readonly #takers: PromiseWithResolvers<WarmSandbox>[] = [];
  /** What is being made, used or removed. None rejects. */
  readonly #tasks = new Set<Promise<void>>();
  #making = 0;
  #count = 0;
  /** Grows when those that wait are to be replaced. */
  #generation = 0;
  #retryMs: number = RETRY.first;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Takes the outcome of the first filling. */
  readonly #filled = Promise.withResolvers<void>();

  constructor(options: WarmPoolOptions) {
    this.#options = options;
    // Whoever opens it gets the rejection nevertheless.
    this.#filled.promise.catch(() => undefined);
  }

  /** All that exist. */
  get sandboxes(): readonly WarmSandbox[] {
    return [...this.#idle, ...this.#used.keys()];
  }

  /** Resolves when all sandboxes wait, and rejects when one of them cannot be made. */
  async open(): Promise<void> {
    if (this.#options.size === 0) return;
    this.#refill();
    await this.#filled.promise;
  }

  /** A sandbox that waits, or else the next one that is made. Rejects when that fails. */
  take(): Promise<WarmSandbox> {
    const taker = Promise.withResolvers<WarmSandbox>();
    if (this.#closed) {
      taker.reject(endingError());
      return taker.promise;
    }
    this.#takers.push(taker);
    const [waiting] = this.#idle;
    if (waiting === undefined) this.#refill();
    else {
      this.#idle.delete(waiting);
      this.#hand(waiting);
      this.#refillIn(REFILL_DELAY);
    }
    return taker.promise;
  }

  /** Removes a sandbox that was taken, in the background. */
  giveBack(sandbox: WarmSandbox): void {
    this.#remove(sandbox);
    this.#used.get(sandbox)?.resolve();
    this.#used.delete(sandbox);
    this.#refill();
  }

  /** Those that wait are used no more: others, that `make` makes from now on, come in their place. */
  replaceAll(): void {
    this.#generation++;
    for (const sandbox of this.#idle) this.#remove(sandbox);
    this.#idle.clear();
    this.#refill();
  }

  /** Removes all that wait; resolves when nothing of the pool is left, once everything taken was given back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const taker of this.#takers.splice(0)) taker.reject(endingError());
    for (const sandbox of this.#idle) this.#remove(sandbox);
    this.#idle.clear();
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  #hand(sandbox: WarmSandbox): void {
    const taker = this.#takers.shift();
    if (taker === undefined) {
      this.#idle.add(sandbox);
      return;
    }
    const used = Promise.withResolvers<void>();
    this.#used.set(sandbox, used);
    this.#track(used.promise);
    taker.resolve(sandbox);
  }

  #refillIn(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#refill();
    }, ms);
  }

  #refill(): void {
    const wanted = this.#options.size - this.#idle.size + this.#takers.length;
    while (!this.#closed && this.#making < Math.min(MAKERS, wanted)) this.#track(this.#make());
  }

  async #make(): Promise<void> {
    this.#making++;
    const generation = this.#generation;
    let sandbox: WarmSandbox | undefined;
    try {
      sandbox = await this.#options.make(this.#count++);
      this.#retryMs = RETRY.first;
    } catch (error) {
      this.#failed(error);
    }
    this.#making--;
    if (sandbox === undefined) return;
    if (this.#closed || generation !== this.#generation) this.#remove(sandbox);
    else {
      this.#hand(sandbox);
      this.#watch(sandbox);
      if (this.#idle.size === this.#options.size) this.#filled.resolve();
    }
    this.#refill();
  }

  #failed(error: unknown): void {
    const taker = this.#takers.shift();
    this.#filled.reject(error);
    if (taker === undefined) this.#options.onFailure(error);
    else taker.reject(error);
    if (this.#closed) return;
    this.#refillIn(this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY.longest);
  }

  /** One that ends while it waits is of no use. */
  #watch(sandbox: WarmSandbox): void {
    const ended = () => {
      if (!this.#idle.delete(sandbox)) return;
      this.#remove(sandbox);
      const what = `The sandbox "${sandbox.id}" ended while it waited`;
      this.#failed(new NixNexletError('NIX_NEXLET_INVOCATION_FAILED', what));
    };
    sandbox.exited.then(ended, ended);
  }

  #remove(sandbox: WarmSandbox): void {
    this.#track(this.#dispose(sandbox));
  }

  async #dispose(sandbox: WarmSandbox): Promise<void> {
    try {
      await sandbox[Symbol.asyncDispose]();
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  #track(task: Promise<void>): void {
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
  }
}

/** For invocations that come too late, or take too long. */
export function endingError(): NixNexletError {
  return new NixNexletError('NIX_NEXLET_STOPPED', 'the workload is ending');
}
