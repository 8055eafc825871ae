import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fsync as fsyncCallback,
  futimesSync,
  lutimesSync,
  mkdirSync,
  open as openCallback,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
  writev as writevCallback,
} from 'node:fs';
import { promisify } from 'node:util';
import { childPath } from './dump-nar.ts';
import type { NarVisitor } from './nar-parser.ts';
import { NixError } from '../nix-error.ts';

const fsync = promisify(fsyncCallback);
const open = promisify(openCallback);
const writev = promisify(writevCallback);

/** Modification time of everything in a store, in seconds. */
const MTIME = 1;
/** Contents are collected to this many bytes, and then written by another thread; smaller files are written at once. */
const WRITE_SIZE = 512 * 1024;
/** Bounds of what other threads have to do at a time. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
const MAX_WAITING_FILES = 64;

interface OpenFile {
  readonly fd: number;
  readonly path: Buffer;
  readonly executable: boolean;
  /** Contents not yet given to be written, and where they belong. */
  pieces: Buffer[];
  bytes: number;
  position: number;
  /** Writes under way in other threads. */
  readonly writes: Promise<void>[];
}

/**
 * Writes what a NAR parser tells below `target`, which must not exist, with canonical metadata.
 *
 * Files are created exclusively and links are never followed: together with the parser, which refuses duplicates and names
 * with a slash, nothing can land outside `target`.
 */
export class TreeWriter implements NarVisitor {
  readonly #target: Buffer;
  readonly #sync: boolean;
  readonly #openDirectories: Buffer[] = [];
  readonly #closedDirectories: Buffer[] = [];
  #file: OpenFile | undefined;
  readonly #work = new Set<Promise<void>>();
  #waitingBytes = 0;
  #failures: unknown[] = [];
  /** Whether `target` was made by this writer. */
  hasCreated = false;

  constructor(target: string, { sync }: { sync: boolean }) {
    this.#target = Buffer.from(target);
    this.#sync = sync;
  }

  /** Whether the caller should {@link drain} before it goes on. */
  get isBusy(): boolean {
    return this.#waitingBytes > MAX_WAITING_BYTES || this.#work.size > MAX_WAITING_FILES || this.#failures.length > 0;
  }

  directory(name: Buffer): void {
    const path = this.#pathOf(name);
    // Writable until it is complete: only root could create files in it otherwise.
    this.#attempt(path, () => mkdirSync(path, 0o755));
    this.#openDirectories.push(path);
  }

  directoryEnd(): void {
    const path = this.#openDirectories.pop() ?? this.#target;
    this.#attempt(path, () => {
      chmodSync(path, 0o555);
      utimesSync(path, MTIME, MTIME);
    });
    if (this.#sync) this.#closedDirectories.push(path);
  }

  symlink(name: Buffer, target: Buffer): void {
    const path = this.#pathOf(name);
    this.#attempt(path, () => {
      symlinkSync(target, path);
      lutimesSync(path, MTIME, MTIME);
    });
  }

  file(name: Buffer, { executable }: { executable: boolean }): void {
    const path = this.#pathOf(name);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const fd = this.#attempt(path, () => openSync(path, flags, 0o600));
    this.#file = { fd, path, executable, pieces: [], bytes: 0, position: 0, writes: [] };
  }

  data(bytes: Buffer): void {
    const file = this.#file;
    if (file === undefined) return;
    file.pieces.push(bytes);
    file.bytes += bytes.length;
    if (file.bytes >= WRITE_SIZE) this.#writeElsewhere(file);
  }

  fileEnd(): void {
    const file = this.#file;
    if (file === undefined) return;
    if (file.writes.length === 0) {
      this.#attempt(file.path, () => {
        for (const piece of file.pieces) writeWhole(file.fd, piece);
        seal(file);
      });
      this.#file = undefined;
      if (this.#sync) this.#track(syncAndClose(file.fd), file.path);
      else closeSync(file.fd);
      return;
    }
    if (file.bytes > 0) this.#writeElsewhere(file);
    this.#file = undefined;
    this.#track(this.#completeLater(file), file.path);
  }

  /** Waits until other threads have caught up. */
  async drain(): Promise<void> {
    await Promise.all(this.#work);
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  /** Waits until everything is written (and on the disk, if so asked). */
  async finish(): Promise<void> {
    await this.drain();
    for (const path of this.#closedDirectories) {
      this.#track(syncDirectory(path), path);
      if (this.isBusy) await this.drain();
    }
    await this.drain();
  }

  /** Waits for other threads and closes what is open; what they say does not matter any more. */
  async abandon(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) {
      await Promise.allSettled(file.writes);
      closeSync(file.fd);
    }
    await Promise.all(this.#work);
  }

  #writeElsewhere(file: OpenFile): void {
    const { pieces, bytes, position } = file;
    file.pieces = [];
    file.bytes = 0;
    file.position += bytes;
    this.#waitingBytes += bytes;
    const write = writeAll(file.fd, pieces, position).finally(() => (this.#waitingBytes -= bytes));
    file.writes.push(write);
    this.#track(write, file.path);
  }

  async #completeLater(file: OpenFile): Promise<void> {
    const results = await Promise.allSettled(file.writes);
    // A failed write is reported where it is tracked.
    if (results.some(({ status }) => status === 'rejected')) return closeSync(file.fd);
    try {
      seal(file);
    } catch (error) {
      closeSync(file.fd);
      throw error;
    }
    if (this.#sync) await syncAndClose(file.fd);
    else closeSync(file.fd);
  }

  /** Keeps count of `work`; its failure is thrown by the next {@link drain}. */
  #track(work: Promise<void>, path: Buffer): void {
    const settled = work
      .catch((error: unknown) => void this.#failures.push(failed(path, error)))
      .finally(() => this.#work.delete(settled));
    this.#work.add(settled);
  }

  #pathOf(name: Buffer): Buffer {
    const parent = this.#openDirectories.at(-1);
    return parent === undefined ? this.#target : childPath(parent, name);
  }

  #attempt<T>(path: Buffer, action: () => T): T {
    try {
      const result = action();
      this.hasCreated = true;
      return result;
    } catch (error) {
      throw failed(path, error);
    }
  }
}

function seal({ fd, executable }: OpenFile): void {
  fchmodSync(fd, executable ? 0o555 : 0o444);
  futimesSync(fd, MTIME, MTIME);
}

function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

async function writeAll(fd: number, pieces: Buffer[], start: number): Promise<void> {
  let position = start;
  let rest = pieces;
  while (rest.length > 0) {
    const { bytesWritten } = await writev(fd, rest, position);
    position += bytesWritten;
    rest = withoutFirst(rest, bytesWritten);
  }
}

function withoutFirst(pieces: Buffer[], bytes: number): Buffer[] {
  let left = bytes;
  let at = 0;
  for (; at < pieces.length; at++) {
    const length = pieces[at]?.length ?? 0;
    if (length > left) break;
    left -= length;
  }
  const [first, ...others] = pieces.slice(at);
  return first === undefined ? [] : [first.subarray(left), ...others];
}

async function syncAndClose(fd: number): Promise<void> {
  try {
    await fsync(fd);
  } finally {
    closeSync(fd);
  }
}

async function syncDirectory(path: Buffer | string): Promise<void> {
  await syncAndClose(await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
}

function failed(path: Buffer, cause: unknown): NixError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NixError('NIX_UNPACK_FAILED', `Cannot write "${path.toString()}": ${why}`, { cause });
}
