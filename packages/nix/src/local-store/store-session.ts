import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { tryLock } from './process-lock.ts';
import { removeTree } from '../nar/remove-tree.ts';
import type { StoreDatabase } from './store-database.ts';
import { STORE_DIR, storePathBaseName } from '../formats/store-path.ts';

const LOCK_SUFFIX = '.lock';
const DEAD_PREFIX = 'dead-';

/**
 * One use of a local store by one process: a folder `<dir>/tmp/<id>` for paths that are being imported, and a lock
 * `<dir>/tmp/<id>.lock` that the kernel takes away when the process ends, so that others can tell its leftovers.
 */
export class StoreSession implements AsyncDisposable {
  readonly #tmp: string;
  readonly #id = randomUUID();
  readonly #folder: string;
  readonly #lock: Disposable;
  #count = 0;

  private constructor(tmp: string) {
    this.#tmp = tmp;
    const lockFile = join(tmp, this.#id + LOCK_SUFFIX);
    const lock = tryLock(lockFile);
    if (lock === undefined) throw new Error(`Cannot lock "${lockFile}": another process holds it`);
    this.#lock = lock;
    this.#folder = join(tmp, this.#id);
    mkdirSync(this.#folder);
  }

  /** Sweeps what crashed processes left in `dir`, and begins a session of its own. */
  static async start(dir: string, db: StoreDatabase): Promise<StoreSession> {
    const tmp = join(dir, 'tmp');
    // In a transaction, since nobody else begins, sweeps or records meanwhile. Leftovers are only moved away here: removing takes its time.
    const session = db.transaction(() => {
      setAsideDeadSessions(tmp);
      const session = new StoreSession(tmp);
      forgetAndSetAside(dir, db, session);
      return session;
    });
    try {
      for (const name of readdirSync(tmp)) {
        if (name.startsWith(DEAD_PREFIX)) await removeTree(join(tmp, name));
      }
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

  /** Moves something out of the store folder at once; it is removed with this session at the latest. */
  discard(path: string): void {
    makeMovable(path);
    renameSync(path, this.temporaryPath());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeTree(this.#folder);
    this.#lock[Symbol.dispose]();
    rmSync(join(this.#tmp, this.#id + LOCK_SUFFIX), { force: true });
  }
}

/** Gives an unpacked tree its final name, with its metadata as it was. */
export function placeTree(from: string, to: string): void {
  const isDirectory = makeMovable(from);
  renameSync(from, to);
  if (!isDirectory) return;
  chmodSync(to, 0o555);
  utimesSync(to, 1, 1);
}

/** Only root may move a folder that it may not write to. */
function makeMovable(path: string): boolean {
  const isDirectory = lstatSync(path).isDirectory();
  if (isDirectory) chmodSync(path, 0o755);
  return isDirectory;
}

function setAsideDeadSessions(tmp: string): void {
  for (const name of readdirSync(tmp)) {
    if (!name.endsWith(LOCK_SUFFIX)) continue;
    const lockFile = join(tmp, name);
    const lock = tryLock(lockFile);
    if (lock === undefined) continue;
    lock[Symbol.dispose]();
    const folder = lockFile.slice(0, -LOCK_SUFFIX.length);
    if (existsSync(folder)) renameSync(folder, join(tmp, DEAD_PREFIX + randomUUID()));
    // Forced, since a session that ends well removes its own at any time.
    rmSync(lockFile, { force: true });
  }
}

/** Makes folder and records agree: a path without a record was left by a crash, a record without its path was deleted by hand. */
function forgetAndSetAside(dir: string, db: StoreDatabase, session: StoreSession): void {
  const store = join(dir, STORE_DIR);
  const present = new Set(readdirSync(store));
  for (const path of db.paths()) {
    if (!present.has(storePathBaseName(path))) db.remove(path);
  }
  const recorded = new Set(db.paths().map(storePathBaseName));
  for (const name of present) {
    if (!recorded.has(name)) session.discard(join(store, name));
  }
}
