import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  futimesSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
  write as writeCallback,
} from 'node:fs';
import { promisify } from 'node:util';
import { BLOCK_SIZE, returnBlock, takeBlock } from '../threads/blocks.ts';
import { MTIME, sealDirectory } from './canonical-metadata.ts';
import { childPath } from './dump-nar.ts';
import type { NarVisitor } from './nar-parser.ts';
import { NixError } from '../nix-error.ts';

const write = promisify(writeCallback);

/** Bounds of what other threads have to do at a time. */
const MAX_WAITING_BLOCKS = 8;
const MAX_WAITING_FILES = 64;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

interface OpenFile {
  readonly fd: number;
  readonly path: Buffer;
  readonly mode: number;
  readonly size: number;
  /** Contents that are collected until they are a block, or all; another thread writes them then. */
  block: ArrayBuffer | undefined;
  used: number;
  /** Where in the file the block belongs. */
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
  readonly #openDirectories: Buffer[] = [];
  #file: OpenFile | undefined;
  readonly #work = new Set<Promise<void>>();
  #waitingBlocks = 0;
  #failures: unknown[] = [];
  /** Modes that a new file here has as asked for: `chmod` would change nothing. */
  readonly #exactModes = new Set<number>();
  /** Whether `target` was made by this writer. */
  hasCreated = false;

  constructor(target: string) {
    this.#target = Buffer.from(target);
  }

  /** Whether the caller should wait for {@link ready} before it goes on. */
  get isBusy(): boolean {
    return this.#waitingBlocks > MAX_WAITING_BLOCKS || this.#work.size > MAX_WAITING_FILES || this.#failures.length > 0;
  }

  directory(name: Buffer): void {
    const path = this.#pathOf(name);
    // Writable until it is complete: only root could create files in it otherwise.
    this.#attempt(path, () => mkdirSync(path, 0o755));
    this.#openDirectories.push(path);
  }

  directoryEnd(): void {
    const path = this.#openDirectories.pop() ?? this.#target;
    this.#attempt(path, () => sealDirectory(path));
  }

  symlink(name: Buffer, target: Buffer): void {
    const path = this.#pathOf(name);
    this.#attempt(path, () => {
      symlinkSync(target, path);
      lutimesSync(path, MTIME, MTIME);
    });
  }

  file(name: Buffer, { executable, size }: { executable: boolean; size: number }): void {
    const path = this.#pathOf(name);
    const mode = executable ? 0o555 : 0o444;
    const fd = this.#attempt(path, () => openSync(path, CREATE, mode));
    this.#file = { fd, path, mode, size, block: undefined, used: 0, position: 0, writes: [] };
  }

  /** Copies or writes `bytes`: they may change when this has returned. */
  data(bytes: Buffer): void {
    const file = this.#file;
    if (file === undefined) return;
    if (bytes.length === file.size && file.size <= BLOCK_SIZE) return this.#writeHere(file, bytes);
    for (let at = 0; at < bytes.length;) {
      file.block ??= takeBlock();
      const part = bytes.subarray(at, at + BLOCK_SIZE - file.used);
      new Uint8Array(file.block).set(part, file.used);
      file.used += part.length;
      at += part.length;
      if (file.used === BLOCK_SIZE) this.#writeElsewhere(file, file.block);
    }
  }

  fileEnd(): void {
    const file = this.#file;
    if (file === undefined) return;
    if (file.block !== undefined) {
      if (file.writes.length > 0) this.#writeElsewhere(file, file.block);
      else {
        this.#writeHere(file, new Uint8Array(file.block, 0, file.used));
        returnBlock(file.block);
      }
    }
    this.#file = undefined;
    if (file.writes.length > 0) return this.#track(this.#completeLater(file), file.path);
    try {
      this.#attempt(file.path, () => this.#seal(file));
    } finally {
      closeSync(file.fd);
    }
  }

  /** Waits until other threads have caught up enough. */
  async ready(): Promise<void> {
    while (this.isBusy) {
      if (this.#failures.length > 0) throw this.#failures[0];
      await Promise.race(this.#work);
    }
  }

  /** Waits until everything is written. */
  async finish(): Promise<void> {
    await Promise.all(this.#work);
    if (this.#failures.length > 0) throw this.#failures[0];
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

  /** For contents of at most a block: another thread would take longer. */
  #writeHere({ fd, path }: OpenFile, bytes: Uint8Array): void {
    this.#attempt(path, () => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    });
  }

  #writeElsewhere(file: OpenFile, block: ArrayBuffer): void {
    const { fd, used, position } = file;
    file.block = undefined;
    file.used = 0;
    file.position += used;
    this.#waitingBlocks++;
    const done = writeAll(fd, new Uint8Array(block, 0, used), position).finally(() => {
      this.#waitingBlocks--;
      returnBlock(block);
    });
    file.writes.push(done);
    this.#track(done, file.path);
  }

  async #completeLater(file: OpenFile): Promise<void> {
    const results = await Promise.allSettled(file.writes);
    // A failed write is reported where it is tracked.
    if (results.some(({ status }) => status === 'rejected')) return closeSync(file.fd);
    try {
      this.#seal(file);
    } finally {
      closeSync(file.fd);
    }
  }

  /** Gives a complete file its metadata. The mode was asked for when it was made: it differs where the umask or an ACL took from it. */
  #seal({ fd, mode }: OpenFile): void {
    if (!this.#exactModes.has(mode)) {
      if ((fstatSync(fd).mode & 0o7777) === mode) this.#exactModes.add(mode);
      else fchmodSync(fd, mode);
    }
    futimesSync(fd, MTIME, MTIME);
  }

  /** Keeps count of `work`; its failure is thrown by the next {@link ready} or {@link finish}. */
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

async function writeAll(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await write(fd, bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

function failed(path: Buffer, cause: unknown): NixError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NixError('NIX_UNPACK_FAILED', `Cannot write "${path.toString()}": ${why}`, { cause });
}
