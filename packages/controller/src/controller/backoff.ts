const FIRST = 1_000;

/** How long to wait before the next try, the longer the more tries have failed. */
export class Backoff {
  #failures = 0;
  #until = 0;

  constructor(failures = 0) {
    this.#failures = failures;
  }

  /** How many have failed since the last reset. */
  get failures(): number {
    return this.#failures;
  }

  /** Milliseconds until the next try may be made; 0: now. */
  get remaining(): number {
    return Math.max(0, this.#until - performance.now());
  }

  /** One more has failed: waits 1 s, 2 s, 4 s … up to `maxMs`. */
  fail(maxMs: number): void {
    this.#failures++;
    this.#until = performance.now() + Math.min(maxMs, FIRST * 2 ** Math.min(this.#failures - 1, 20));
  }

  /** Things have changed: the next try may be made now. */
  retry(): void {
    this.#until = 0;
  }

  reset(): void {
    this.#failures = 0;
    this.#until = 0;
  }
}
