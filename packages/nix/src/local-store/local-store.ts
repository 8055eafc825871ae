import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { SignalOptions } from '../abortable.ts';
import { type AddOptions, type PathStore, sortReferencesFirst } from '../closure/path-source.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { STORE_DIR, type StorePath } from '../formats/store-path.ts';
import { dumpNar } from '../nar/dump-nar.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { NixError } from '../nix-error.ts';
import { DiskWriter } from './durability.ts';
import { collectGarbage, type CollectGarbageOptions, type GarbageCollection } from './garbage-collection.ts';
import { importPath } from './import-path.ts';
import { LastUses } from './last-uses.ts';
import { StoreDatabase } from './store-database.ts';
import type { StoreParts } from './store-parts.ts';
import { StoreSession } from './store-session.ts';
import {
  type DamagedPath,
  type VerifyOptions,
  type VerifyReport,
  verifyStore,
  verifyUnsynced,
} from './verification.ts';

/** Options of {@link LocalStore.open}. */
export interface LocalStoreOptions extends SignalOptions {
  /** Folder of the store: contents in `<dir>/nix/store`, the valid paths in `<dir>/db.sqlite`. Made when absent. */
  dir: string;
  /** Told of paths that are no longer valid: deleted by hand, or damaged when the machine stopped before they were on the disk. */
  onDamaged?: ((damage: DamagedPath) => void) | undefined;
}

/**
 * A store of its own that needs no Nix: a folder and a table of valid paths.
 *
 * A path is either absent or complete and verified; a valid path has its whole closure. Several processes may use one store at a time.
 * What a crash left half done is gone after the next {@link LocalStore.open}. Content reaches the disk in the background; what had not
 * when the machine itself stopped is verified by the next open before it counts as valid.
 */
export class LocalStore implements PathStore, AsyncDisposable {
  readonly name: string;
  readonly dir: string;
  readonly #db: StoreDatabase;
  readonly #session: StoreSession;
  readonly #parts: StoreParts;
  readonly #lastUses: LastUses;
  readonly #diskWriter: DiskWriter;
  readonly #closing = new AbortController();
  /** Imports, collections and verifications under way. */
  readonly #work = new Set<Promise<unknown>>();
  #imports = 0;
  #closed: Promise<void> | undefined;

  private constructor(parts: StoreParts, dir: string) {
    this.dir = dir;
    this.name = parts.name;
    this.#db = parts.db;
    this.#session = parts.session;
    this.#parts = parts;
    this.#lastUses = new LastUses(parts.db);
    this.#diskWriter = new DiskWriter({ ...parts, isImporting: () => this.#imports > 0 });
    this.#diskWriter.wake();
  }

  /**
   * Opens the store in a folder, or makes one. Takes long only after the machine stopped within seconds of large imports.
   *
   * @throws {@link NixError} `NIX_STORE_INVALID`, `NIX_STORE_BUSY`, `NIX_STORE_FULL`.
   */
  static async open({ dir, onDamaged = () => undefined, signal }: LocalStoreOptions): Promise<LocalStore> {
    signal?.throwIfAborted();
    const folder = resolve(dir);
    try {
      await mkdir(join(folder, STORE_DIR), { recursive: true });
      await mkdir(join(folder, 'tmp'), { recursive: true });
    } catch (error) {
      throw new NixError('NIX_STORE_INVALID', `Cannot make a store in "${folder}": ${String(error)}`, { cause: error });
    }
    await using stack = new AsyncDisposableStack();
    const db = stack.use(new StoreDatabase(join(folder, 'db.sqlite')));
    const session = stack.use(
      await StoreSession.start(folder, db, (storePath, removed) =>
        onDamaged({ storePath, kind: 'missing', detail: 'it is not there', outcome: 'removed', removed }),
      ),
    );
    const realPath = (path: StorePath) => join(folder, path);
    const parts: StoreParts = { name: `the store in ${folder}`, db, session, realPath };
    await verifyUnsynced(parts, onDamaged, { signal });
    stack.move();
    return new LocalStore(parts, folder);
  }

  /** Where the content of a path is on disk, whether it is valid or not. */
  realPath(path: StorePath): string {
    return this.#parts.realPath(path);
  }

  async has(path: StorePath): Promise<boolean> {
    return this.#open().has(path);
  }

  /** Those of `paths` that are not valid here, each once. */
  async missing(paths: Iterable<StorePath>): Promise<StorePath[]> {
    return this.#open().missing(paths);
  }

  /** Those of `hashes` (the 32 characters after `/nix/store/`) that no valid path has. */
  async missingHashes(hashes: Iterable<string>): Promise<string[]> {
    const db = this.#open();
    return [...hashes].filter((hash) => !db.hasPrefix(`${STORE_DIR}/${hash}-`));
  }

  /** How many valid paths there are, and the bytes of their NARs. */
  async size(): Promise<{ paths: number; bytes: number }> {
    return this.#open().size();
  }

  async pathInfo(path: StorePath, { signal }: SignalOptions = {}): Promise<PathInfo | undefined> {
    signal?.throwIfAborted();
    return this.#open().get(path);
  }

  /** The closure of `roots`, references first. @throws {@link NixError} `NIX_PATH_NOT_FOUND`. */
  async closure(roots: readonly StorePath[], { signal }: SignalOptions = {}): Promise<PathInfo[]> {
    signal?.throwIfAborted();
    return sortReferencesFirst(this.#open().reachable(roots), roots, this.name);
  }

  /** The path may be collected meanwhile unless it is held or pinned. */
  nar(info: PathInfo, options: NarOptions = {}): AsyncIterable<Uint8Array> {
    return dumpNar(this.realPath(info.storePath), options);
  }

  /**
   * Imports a path whose NAR is `nar`. Everything it refers to must be valid here, by the time `references` is fulfilled at the latest, and
   * is not collected meanwhile. Whether the path is to be trusted is decided before (see {@link requireTrust}); here the content is
   * verified: hash and size of the NAR, and a content address as far as it can be. When it fails, nothing is left of it.
   *
   * @returns `present` when the path was valid already, or became so meanwhile.
   * @throws {@link NixError} `NIX_REFERENCE_MISSING`, `NIX_NAR_INVALID`, `NIX_NAR_SIZE_MISMATCH`, `NIX_NAR_HASH_MISMATCH`,
   *   `NIX_CONTENT_MISMATCH`, `NIX_UNPACK_FAILED`, `NIX_STORE_FULL`, `NIX_STORE_CLOSED`; what `references` is rejected with.
   */
  async add(info: PathInfo, nar: AsyncIterable<Uint8Array>, options: AddOptions = {}): Promise<'added' | 'present'> {
    // Whoever made it looks at it as well, but not necessarily in time.
    options.references?.catch(() => undefined);
    if (this.#open().has(info.storePath)) {
      this.#lastUses.touch([info.storePath]);
      await nar[Symbol.asyncIterator]().return?.();
      return 'present';
    }
    this.#imports++;
    try {
      return await this.#run(options, (signal) => importPath(this.#parts, info, nar, { ...options, signal }));
    } finally {
      this.#imports--;
      this.#diskWriter.wake();
    }
  }

  /** Notes that these paths, and so what they refer to, are used now. Written within seconds. */
  touch(paths: Iterable<StorePath>): void {
    this.#open();
    this.#lastUses.touch(paths);
  }

  /**
   * Keeps `paths` and all they refer to from being collected, also by other processes, until it is disposed of or this process ends,
   * however it does. They need not be valid: what is not yet is protected from the moment it is. Counts as a use.
   *
   * What was collected a moment before is not there: hold first, then look.
   */
  hold(paths: Iterable<StorePath>): Disposable {
    this.#open();
    const held = [...paths];
    this.#lastUses.touch(held);
    return this.#session.hold(held);
  }

  /**
   * Keeps `paths` and all they refer to from being collected until the pin is removed, in place of what it kept before.
   * Known after a restart, and on the disk when it is done.
   *
   * @throws {@link NixError} `NIX_PATH_NOT_FOUND` when one of them is not valid; then the pin stays as it was.
   */
  async pin(name: string, paths: Iterable<StorePath>): Promise<void> {
    const db = this.#open();
    const pinned = [...paths];
    db.transaction(
      () => {
        const missing = pinned.find((path) => !db.has(path));
        if (missing !== undefined) throw notValid(missing, this.name);
        db.setPin(name, pinned);
      },
      { durable: true },
    );
    this.#lastUses.touch(pinned);
  }

  /** Removes a pin, if there is one of that name. */
  async unpin(name: string): Promise<void> {
    await this.pin(name, []);
  }

  /** What each pin keeps. A path that was damaged or deleted by hand stays named, and is protected again once it is imported again. */
  async pins(): Promise<Map<string, StorePath[]>> {
    return this.#open().pins();
  }

  /**
   * Removes the least recently used closures until the NARs of all valid paths have at most `maxBytes`; never what is pinned or held, or
   * needed by a valid path that stays. Their size on disk is about that, plus what the file system takes for each file.
   * Safe while this and other processes import, hold, pin and collect.
   */
  async collectGarbage(options: CollectGarbageOptions): Promise<GarbageCollection> {
    this.#open();
    this.#lastUses.flush();
    return this.#run(options, (signal) => collectGarbage(this.#parts, { ...options, signal }));
  }

  /**
   * Reads what is here and compares it with the records: hash and size of every NAR, modes and modification times, paths that are gone.
   * With `repair`, damaged paths are fetched again and put right in place; they stay valid, and running programs keep their files.
   *
   * @throws {@link NixError} `NIX_PATH_NOT_FOUND` when one of `paths` is not valid.
   */
  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    this.#open();
    try {
      return await this.#run(options, (signal) => verifyStore(this.#parts, { ...options, signal }));
    } finally {
      this.#diskWriter.wake();
    }
  }

  /** Stops what is under way, waits until it has cleaned up, and closes the store. What is not on the disk yet is the next open's. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort(storeClosed(this.name));
    await Promise.allSettled(this.#work);
    await this.#diskWriter[Symbol.asyncDispose]();
    this.#lastUses[Symbol.dispose]();
    await this.#session[Symbol.asyncDispose]();
    this.#db[Symbol.dispose]();
  }

  /** Runs `action` with a signal that also tells of closing, which waits for it. */
  async #run<T>({ signal }: SignalOptions, action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const work = action(AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]));
    this.#work.add(work);
    try {
      return await work;
    } finally {
      this.#work.delete(work);
    }
  }

  #open(): StoreDatabase {
    if (this.#closing.signal.aborted) throw storeClosed(this.name);
    return this.#db;
  }
}

function notValid(path: StorePath, name: string): NixError {
  return new NixError('NIX_PATH_NOT_FOUND', `Cannot pin "${path}": it is not in ${name}`, {
    hint: 'Import it first, and hold it from before that on',
  });
}

function storeClosed(name: string): NixError {
  return new NixError('NIX_STORE_CLOSED', `Cannot use ${name}: it is closed`);
}
