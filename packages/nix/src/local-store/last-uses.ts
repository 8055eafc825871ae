import type { StorePath } from '../formats/store-path.ts';
import { NixError } from '../nix-error.ts';
import type { StoreDatabase } from './store-database.ts';

/** Milliseconds that uses are collected before they are written: a crash forgets that many at most. */
const DELAY = 2000;

/** When paths were used, written to the database many at a time. */
export class LastUses implements Disposable {
  readonly #db: StoreDatabase;
  readonly #times = new Map<StorePath, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(db: StoreDatabase) {
    this.#db = db;
  }

  /** `paths` are used now. */
  touch(paths: Iterable<StorePath>): void {
    for (const path of paths) this.#times.set(path, Date.now());
    if (this.#times.size === 0) return;
    this.#timer ??= setTimeout(() => this.#flushOrWait(), DELAY).unref();
  }

  /** Writes what is not written yet. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#times.size === 0) return;
    this.#db.transaction(() => {
      for (const [path, time] of this.#times) this.#db.touch(path, time);
    });
    this.#times.clear();
  }

  [Symbol.dispose](): void {
    this.#flushOrWait();
    clearTimeout(this.#timer);
  }

  /** A database that is busy or full is no reason to fail: at worst a path counts as older than it is. */
  #flushOrWait(): void {
    try {
      this.flush();
    } catch (error) {
      if (!(error instanceof NixError)) throw error;
      this.touch([]);
    }
  }
}
