import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import type { StreamName } from './log-segments.ts';

const { O_CREAT, O_WRONLY } = constants;

/** Places of this process' readers by file. */
const places = new Map<string, Set<ReaderMark>>();

/**
 * Tells the supervisor, in the file `<stream>.reader`, that this process reads a stream and how far it got, so that it
 * does not drop what is about to be read. With several readers the last of them counts.
 */
export class ReaderMark implements Disposable {
  readonly #path: string;
  #place = 0;

  constructor(folder: string, stream: StreamName) {
    this.#path = join(folder, `${stream}.reader`);
  }

  /** Everything before `place` is read. */
  moveTo(place: number): void {
    this.#place = place;
    const readers = places.get(this.#path) ?? new Set<ReaderMark>();
    places.set(this.#path, readers.add(this));
    const least = Math.min(...[...readers].map((reader) => reader.#place));
    // Always as long, and written at once: whoever reads it finds one place or the other.
    write(this.#path, `${String(process.pid).padStart(10)} ${String(least).padStart(16)}\n`);
  }

  [Symbol.dispose](): void {
    const readers = places.get(this.#path);
    if (readers?.delete(this) !== true || readers.size > 0) return;
    places.delete(this.#path);
    rmSync(this.#path, { force: true });
  }
}

/** Does nothing when the sandbox is removed already. */
function write(path: string, text: string): void {
  try {
    const file = openSync(path, O_CREAT | O_WRONLY, 0o600);
    try {
      writeSync(file, text, 0);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
