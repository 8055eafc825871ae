import { type FSWatcher, watch } from 'node:fs';
import { hasErrno } from '../file-errors.ts';
import { isLogFile } from '../logs/log-segments.ts';
import { Pulse } from '../pulse.ts';

const SAFETY_INTERVAL_MS = 5000;
const POLL_INTERVAL_MS = 250;

/**
 * Tells when the files of a sandbox change, by inotify. A slow timer makes up for a lost event; where the machine has
 * no inotify watches left (fs.inotify.max_user_watches) it is a faster one.
 */
export class FolderWatch implements Disposable {
  /** Something other than the logs has changed. */
  readonly state = new Pulse();
  readonly logs = new Pulse();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout;

  constructor(folder: string) {
    this.#timer = setInterval(() => this.fire(), SAFETY_INTERVAL_MS);
    try {
      this.#watcher = watch(folder, (_event, name) => {
        if (name === null || !isLogFile(name)) this.state.fire();
        // Readers' own marks are no news.
        else if (!name.endsWith('.reader')) this.logs.fire();
      });
      this.#watcher.on('error', () => this.#poll());
    } catch (error) {
      if (!hasErrno(error, 'ENOSPC', 'EMFILE')) throw error;
      this.#poll();
    }
  }

  /** Wakes everybody who waits for anything. */
  fire(): void {
    this.state.fire();
    this.logs.fire();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #poll(): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.fire(), POLL_INTERVAL_MS);
  }
}
