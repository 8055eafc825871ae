/**
 * Tasks that belong together: the first that fails aborts the signal of all, and {@link TaskGroup.join} waits for every one
 * of them before it throws that failure.
 */
export class TaskGroup {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(signal?: AbortSignal) {
    this.signal = signal === undefined ? this.#controller.signal : AbortSignal.any([signal, this.#controller.signal]);
  }

  /** Begins a task. Its failure is reported by `join`. */
  start(task: (signal: AbortSignal) => Promise<void>): void {
    const running = this.#run(task).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Waits until nothing is under way, tasks begun meanwhile included. */
  async join(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #run(task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await task(this.signal);
    } catch (error) {
      this.#failure ??= { error };
      this.#controller.abort(error);
    }
  }
}
