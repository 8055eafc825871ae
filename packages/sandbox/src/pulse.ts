/** A signal that may be given any number of times to any number of waiters. */
export class Pulse {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next `fire()`. Take it before looking at the state it is about, or a change may be missed. */
  next(): Promise<void> {
    return this.#next.promise;
  }

  fire(): void {
    const fired = this.#next;
    this.#next = Promise.withResolvers<void>();
    fired.resolve();
  }
}
