import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { hasErrno } from '../../file-errors.ts';
import { readTail } from './firecracker-files.ts';

/** Bytes on disk from which on a file is emptied. */
const MAX_BYTES = 1 << 20;

/** Milliseconds between two looks. A guest that prints as fast as it can writes some MiB in that time. */
const LOOK_INTERVAL = 10_000;

const TAIL_BYTES = 8 * 1024;

/** Of a block, as stat(2) counts them. */
const BLOCK_BYTES = 512;

/**
 * A file that a guest can have written to without end: its console, and the log with complaints about it. It is kept small
 * for as long as this object is there.
 */
export class BoundedFile implements Disposable {
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  /** The end of what was thrown away. */
  #before = '';

  constructor(path: string) {
    this.#path = path;
    // A look that fails, for want of descriptors say, is followed by the next one.
    this.#timer = setInterval(() => void this.shorten().catch(() => undefined), LOOK_INTERVAL);
    this.#timer.unref();
  }

  async tail(): Promise<string> {
    const text = await readTail(this.#path, TAIL_BYTES);
    return text.length < TAIL_BYTES ? `${this.#before}${text}`.slice(-TAIL_BYTES) : text;
  }

  /**
   * Empties a file that has become too long. Whoever appends goes on at its start; whoever does not leaves a hole there,
   * which takes no room and is not read as anything.
   */
  async shorten(): Promise<void> {
    try {
      // oxlint-disable-next-line no-bitwise
      await using file = await open(this.#path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const found = await file.stat();
      if (!found.isFile() || found.blocks * BLOCK_BYTES <= MAX_BYTES) return;
      this.#before = await this.tail();
      await file.truncate();
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ELOOP')) throw error;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
