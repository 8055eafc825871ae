import type { DevStatus } from '../dev-controls.ts';

/** How often lines that services print make a new status, in milliseconds; what is more important does at once. */
const LINES_MS = 100;

/** Tells any number of watchers when a status is out of date. Each takes the newest when it is ready to; what lies between is left out. */
export class StatusWatch implements Disposable {
  readonly #watchers = new Set<Watcher>();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  changed(): void {
    for (const watcher of this.#watchers) watcher.notify();
  }

  /** Something was printed. */
  printed(): void {
    if (this.#watchers.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.changed();
    }, LINES_MS).unref();
  }

  /** The status now, and whenever it has changed; the last one when this is disposed of. */
  async *watch(read: () => Promise<DevStatus>, signal?: AbortSignal): AsyncIterable<DevStatus> {
    const watcher = new Watcher();
    this.#watchers.add(watcher);
    const stop = (): void => watcher.notify();
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        if (signal?.aborted === true) return;
        const isLast = this.#ended;
        const status = await read();
        yield status;
        if (isLast) return;
        if (!this.#ended) await watcher.notified();
      }
    } finally {
      this.#watchers.delete(watcher);
      signal?.removeEventListener('abort', stop);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#ended = true;
    this.changed();
  }
}

class Watcher {
  #news = Promise.withResolvers<void>();

  notify(): void {
    this.#news.resolve();
  }

  async notified(): Promise<void> {
    await this.#news.promise;
    this.#news = Promise.withResolvers<void>();
  }
}
