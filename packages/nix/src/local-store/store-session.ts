import { randomUUID } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { STORE_DIR, type StorePath, storePathBaseName } from '../formats/store-path.ts';
import { sealDirectory } from '../nar/canonical-metadata.ts';
import { removeTree } from '../nar/remove-tree.ts';
import { tryLock } from './process-lock.ts';
import type { StoreDatabase } from './store-database.ts';

const LOCK_SUFFIX = '.lock';

/**
 * One use of a local store by one process: a folder `<dir>/tmp/<id>` for what is being imported or removed, holds of its own, and a
 * lock `<dir>/tmp/<id>.lock` that the kernel takes away when the process ends, so that others can tell what is left over.
 */
export class StoreSession implements AsyncDisposable {
  readonly #id: string = randomUUID();
  readonly #dir: string;
  readonly #tmp: string;
  readonly #db: StoreDatabase;
  readonly #folder: string;
  readonly #lock: Disposable;
  /** How often each path is held. */
  readonly #holds = new Map<StorePath, number>();
  #count = 0;
  #isOver = false;

  private constructor(dir: string, db: StoreDatabase) {
    this.#dir = dir;
    this.#db = db;
    this.#tmp = join(dir, 'tmp');
    const lockFile = join(this.#tmp, this.#id + LOCK_SUFFIX);
    const lock = tryLock(lockFile);
    if (lock === undefined) throw new Error(`Cannot lock "${lockFile}": another process holds it`);
    this.#lock = lock;
    this.#folder = join(this.#tmp, this.#id);
    try {
      mkdirSync(this.#folder);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Begins a session, takes away what crashed processes left in `dir`, and makes folder and records agree: a path without a record
   * was left by a crash, a record without its path was deleted by hand.
   *
   * @param onMissing told of records that were forgotten, each with all that refers to it.
   */
  static async start(
    dir: string,
    db: StoreDatabase,
    onMissing: (path: StorePath, forgotten: readonly StorePath[]) => void,
  ): Promise<StoreSession> {
    // In transactions, since nobody else begins, sweeps or records meanwhile.
    const session = db.transaction(() => new StoreSession(dir, db));
    try {
      // Leftovers are only moved away here: removing takes its time.
      const leftovers = db.transaction(() => {
        const left = session.takeFromTheDead();
        session.#forgetMissing(onMissing);
        return [...left, ...session.takeUnrecorded()];
      });
      for (const leftover of leftovers) await removeTree(leftover);
      return session;
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A path that does not exist yet, on the same file system as the store. */
  temporaryPath(): string {
    return join(this.#folder, String(this.#count++));
  }

  /** Moves something out of the store folder at once; it is removed with this session at the latest. @returns where it is then. */
  discard(path: string | Buffer): string {
    const temporary = this.temporaryPath();
    moveTree(path, temporary);
    return temporary;
  }

  /** {@link discard}s what is in the store folder without a record; inside a transaction. @returns where it is then. */
  takeUnrecorded(): string[] {
    return this.unrecorded().map((name) => this.discard(join(this.#dir, STORE_DIR, name)));
  }

  /** Names of what is in the store folder without a record; inside a transaction. */
  unrecorded(): string[] {
    const recorded = new Set(this.#db.paths().map(storePathBaseName));
    return readdirSync(join(this.#dir, STORE_DIR)).filter((name) => !recorded.has(name));
  }

  /** Ends the holds of processes that are gone, and takes over what they left in `tmp`; inside a transaction. @returns where it is then. */
  takeFromTheDead(): string[] {
    const names = readdirSync(this.#tmp);
    const live = [this.#id];
    for (const name of names) {
      if (!name.endsWith(LOCK_SUFFIX)) continue;
      const id = name.slice(0, -LOCK_SUFFIX.length);
      if (id !== this.#id && !this.#isDead(name)) live.push(id);
    }
    this.#db.keepHoldsOf(live);
    const left = names.filter((name) => !name.endsWith(LOCK_SUFFIX) && !live.includes(name));
    return left.flatMap((name) => this.#take(join(this.#tmp, name)));
  }

  /**
   * Keeps `paths` and what they refer to from being collected, by this and every other process, until it is disposed of or this process
   * ends. They may be valid or not: what is not yet is protected from the moment it is.
   */
  hold(paths: Iterable<StorePath>): Disposable {
    const held = [...new Set(paths)];
    const fresh = held.filter((path) => !this.#holds.has(path));
    if (fresh.length > 0) {
      this.#db.transaction(() => {
        for (const path of fresh) this.#db.addHold(this.#id, path);
      });
    }
    for (const path of held) this.#holds.set(path, (this.#holds.get(path) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#release(held);
        isHeld = false;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    // Its holds end with the lock.
    await removeTree(this.#folder);
    this.#lock[Symbol.dispose]();
    rmSync(join(this.#tmp, this.#id + LOCK_SUFFIX), { force: true });
  }

  #forgetMissing(onMissing: (path: StorePath, forgotten: readonly StorePath[]) => void): void {
    const present = new Set(readdirSync(join(this.#dir, STORE_DIR)));
    for (const path of this.#db.paths()) {
      if (present.has(storePathBaseName(path))) continue;
      const forgotten = this.#db.forget(path);
      if (forgotten.length > 0) onMissing(path, forgotten);
    }
  }

  #release(paths: readonly StorePath[]): void {
    const last = paths.filter((path) => this.#holds.get(path) === 1);
    for (const path of paths) this.#holds.set(path, (this.#holds.get(path) ?? 0) - 1);
    for (const path of last) this.#holds.delete(path);
    if (this.#isOver || last.length === 0) return;
    this.#db.transaction(() => {
      for (const path of last) this.#db.removeHold(this.#id, path);
    });
  }

  #isDead(lockName: string): boolean {
    const lockFile = join(this.#tmp, lockName);
    const lock = tryLock(lockFile);
    if (lock === undefined) return false;
    lock[Symbol.dispose]();
    // Forced, since a session that ends well removes its own at any time.
    rmSync(lockFile, { force: true });
    return true;
  }

  /** Nothing when it is gone: a session that ends well removes its own. */
  #take(path: string): string[] {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
    return [this.discard(path)];
  }
}

/** Gives an unpacked tree its final name, with its metadata as it was. */
export function placeTree(from: string, to: string): void {
  if (moveTree(from, to)) sealDirectory(to);
}

/** Renames; a folder is writable afterwards, for only root may move one that it may not write to. @returns whether it is a folder. */
export function moveTree(from: string | Buffer, to: string): boolean {
  const isFolder = lstatSync(from).isDirectory();
  if (isFolder) chmodSync(from, 0o755);
  renameSync(from, to);
  return isFolder;
}
