import type { QmpEvent } from './qmp-message.ts';

/** Hands what QEMU tells to whoever listens at that time. */
export class QemuEvents {
  readonly #listeners = new Set<(event: QmpEvent) => void>();

  readonly emit = (event: QmpEvent): void => {
    for (const listener of this.#listeners) listener(event);
  };

  /** Undone by disposing what it returns. */
  listen(listener: (event: QmpEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }
}
