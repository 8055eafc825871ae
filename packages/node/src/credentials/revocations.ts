import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '@nex-nix/nexlet';
import type { Holder, Minter } from './minter.ts';

/** Waits between the attempts to take credentials back, in milliseconds. */
const RETRY_AFTER = [1_000, 5_000, 30_000];
/** How long the end of a node waits for what is under way, in milliseconds. */
const PATIENCE = 5_000;

/** Takes credentials back behind the scenes, and more than once where that fails at first. */
export class Revocations implements AsyncDisposable {
  readonly #minter: Minter;
  readonly #logger: Logger;
  readonly #ending = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(minter: Minter, logger: Logger) {
    this.#minter = minter;
    this.#logger = logger;
  }

  add(holder: Holder): void {
    if (this.#minter.revoke === undefined) return;
    const task = this.#revoke(holder);
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await Promise.race([Promise.all(this.#running), delay(PATIENCE, undefined, { ref: false })]);
  }

  async #revoke(holder: Holder): Promise<void> {
    for (const wait of [...RETRY_AFTER, undefined]) {
      try {
        await this.#minter.revoke?.(holder);
        return;
      } catch (error) {
        const last = wait === undefined || this.#ending.signal.aborted;
        this.#logger.error({ err: error, ...holder, tryAgain: !last }, 'credentials could not be taken back');
        if (last) return;
        await delay(wait, undefined, { signal: this.#ending.signal, ref: false }).catch(() => undefined);
      }
    }
  }
}
