import { abortable } from './abortable.ts';

interface Waiter {
  readonly amount: number;
  readonly proceed: () => void;
}

/** Lets no more than `capacity` be in use at once; who asks first is served first. */
export class Semaphore {
  readonly #capacity: number;
  #free: number;
  readonly #waiters: Waiter[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#free = capacity;
  }

  /** Waits until `amount` is free, and takes it; more than there is at all counts as all of it. */
  async acquire(amount: number, signal?: AbortSignal): Promise<Disposable> {
    const taken = Math.min(amount, this.#capacity);
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter = { amount: taken, proceed: resolve };
    this.#waiters.push(waiter);
    this.#serve();
    try {
      await abortable(promise, signal);
    } catch (error) {
      const at = this.#waiters.indexOf(waiter);
      if (at === -1) this.#release(taken);
      else this.#waiters.splice(at, 1);
      throw error;
    }
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#release(taken);
        held = false;
      },
    };
  }

  /** Whether who asks for `amount` now has to wait. */
  isShortOf(amount: number): boolean {
    return this.#waiters.length > 0 || Math.min(amount, this.#capacity) > this.#free;
  }

  #release(amount: number): void {
    this.#free += amount;
    this.#serve();
  }

  #serve(): void {
    for (let first = this.#waiters[0]; first !== undefined && first.amount <= this.#free; first = this.#waiters[0]) {
      this.#waiters.shift();
      this.#free -= first.amount;
      first.proceed();
    }
  }
}
