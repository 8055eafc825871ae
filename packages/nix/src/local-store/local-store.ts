import { createHash } from 'node:crypto';
import { createReadStream, lstatSync } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseContentAddress } from '../formats/content-address.ts';
import { dumpNar } from '../nar/dump-nar.ts';
import { narHashOf } from '../formats/hash.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { type AddOptions, type PathStore, sortReferencesFirst } from '../closure/path-source.ts';
import { removeTree } from '../nar/remove-tree.ts';
import { StoreDatabase } from './store-database.ts';
import { STORE_DIR, type StorePath } from '../formats/store-path.ts';
import { placeTree, StoreSession } from './store-session.ts';
import { unpackNar } from '../nar/unpack-nar.ts';

export interface LocalStoreOptions {
  /** Folder of the store: contents in `<dir>/nix/store`, the valid paths in `<dir>/db.sqlite`. Made when absent. */
  dir: string;
}

/**
 * A store of its own that needs no Nix: a folder and a table of valid paths.
 *
 * A path is either absent or complete, verified and on the disk; a valid path has its whole closure. Several processes
 * may use one store at a time. What a crash left half done is gone after the next {@link LocalStore.open}.
 */
export class LocalStore implements PathStore, AsyncDisposable {
  readonly name: string;
  readonly dir: string;
  readonly #db: StoreDatabase;
  readonly #session: StoreSession;
  readonly #closing = new AbortController();
  readonly #imports = new Set<Promise<unknown>>();

  private constructor(dir: string, db: StoreDatabase, session: StoreSession) {
    this.dir = dir;
    this.name = `the store in ${dir}`;
    this.#db = db;
    this.#session = session;
  }

  /** @throws {@link NixError} `NIX_STORE_INVALID`. */
  static async open(options: LocalStoreOptions): Promise<LocalStore> {
    const dir = resolve(options.dir);
    try {
      await mkdir(join(dir, STORE_DIR), { recursive: true });
      await mkdir(join(dir, 'tmp'), { recursive: true });
    } catch (error) {
      throw new NixError('NIX_STORE_INVALID', `Cannot make a store in "${dir}": ${String(error)}`, { cause: error });
    }
    const db = new StoreDatabase(join(dir, 'db.sqlite'));
    try {
      return new LocalStore(dir, db, await StoreSession.start(dir, db));
    } catch (error) {
      db[Symbol.dispose]();
      throw error;
    }
  }

  /** Where the content of a path is on disk, whether it is valid or not. */
  realPath(path: StorePath): string {
    return join(this.dir, path);
  }

  async has(path: StorePath): Promise<boolean> {
    return this.#open().has(path);
  }

  /** Those of `paths` that are not valid here, each once. */
  async missing(paths: Iterable<StorePath>): Promise<StorePath[]> {
    const db = this.#open();
    return [...new Set(paths)].filter((path) => !db.has(path));
  }

  async pathInfo(path: StorePath, { signal }: SignalOptions = {}): Promise<PathInfo | undefined> {
    signal?.throwIfAborted();
    return this.#open().get(path);
  }

  /** The closure of `roots`, references first. @throws {@link NixError} `NIX_PATH_NOT_FOUND`. */
  async closure(roots: readonly StorePath[], { signal }: SignalOptions = {}): Promise<PathInfo[]> {
    signal?.throwIfAborted();
    const db = this.#open();
    const infos: PathInfo[] = [];
    const wanted = new Set(roots);
    // Grows while it is walked.
    for (const path of wanted) {
      const info = db.get(path);
      if (info === undefined) continue;
      infos.push(info);
      for (const reference of info.references) wanted.add(reference);
    }
    return sortReferencesFirst(infos, roots, this.name);
  }

  nar(info: PathInfo, options: SignalOptions = {}): AsyncIterable<Uint8Array> {
    return dumpNar(this.realPath(info.storePath), options);
  }

  /**
   * Imports a path whose NAR is `nar`. Everything it refers to must be valid here already. Whether it is to be trusted is decided before
   * (see {@link requireTrust}); here the content is verified: hash and size of the NAR, and a content address as far as it can be.
   * When it fails, nothing is left of it.
   *
   * @returns `present` when the path was valid already, or became so meanwhile.
   * @throws {@link NixError} `NIX_REFERENCE_MISSING`, `NIX_NAR_INVALID`, `NIX_NAR_SIZE_MISMATCH`, `NIX_NAR_HASH_MISMATCH`,
   *   `NIX_CONTENT_MISMATCH`, `NIX_UNPACK_FAILED`, `NIX_STORE_CLOSED`.
   */
  async add(info: PathInfo, nar: AsyncIterable<Uint8Array>, options: AddOptions = {}): Promise<'added' | 'present'> {
    if (this.#open().has(info.storePath)) {
      await nar[Symbol.asyncIterator]().return?.();
      return 'present';
    }
    const work = this.#import(info, nar, options);
    this.#imports.add(work);
    try {
      return await work;
    } finally {
      this.#imports.delete(work);
    }
  }

  /** Stops imports under way, waits until they have cleaned up, and closes the store. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(storeClosed(this.name));
    await Promise.allSettled(this.#imports);
    await this.#session[Symbol.asyncDispose]();
    this.#db[Symbol.dispose]();
  }

  async #import(info: PathInfo, nar: AsyncIterable<Uint8Array>, options: AddOptions): Promise<'added' | 'present'> {
    const origin = options.origin ?? 'its source';
    const signal = AbortSignal.any([this.#closing.signal, ...(options.signal === undefined ? [] : [options.signal])]);
    const temporary = this.#session.temporaryPath();
    try {
      this.#requireReferences(info);
    } catch (error) {
      await nar[Symbol.asyncIterator]().return?.();
      throw error;
    }
    try {
      const unpacked = await unpackNar(nar, temporary, {
        maxSize: info.narSize,
        sync: true,
        signal,
        origin: info.storePath,
      });
      if (unpacked.narSize !== info.narSize) {
        throw mismatch('NIX_NAR_SIZE_MISMATCH', info, {
          got: `${unpacked.narSize} bytes`,
          expected: info.narSize,
          origin,
        });
      }
      if (unpacked.narHash !== info.narHash) {
        throw mismatch('NIX_NAR_HASH_MISMATCH', info, { got: unpacked.narHash, expected: info.narHash, origin });
      }
      await verifyContentAddress(info, temporary, origin);
      signal.throwIfAborted();
      return this.#record(info, temporary);
    } finally {
      await removeTree(temporary);
    }
  }

  /**
   * Renames and records in one transaction: whatever is in the store folder without a record was left by a crash.
   * The contents are on the disk by now; a crash may lose the rename or the record, and the next open makes the two agree.
   */
  #record(info: PathInfo, temporary: string): 'added' | 'present' {
    return this.#db.transaction(() => {
      if (this.#db.has(info.storePath)) return 'present';
      this.#requireReferences(info);
      const target = this.realPath(info.storePath);
      if (lstatSync(target, { throwIfNoEntry: false }) !== undefined) this.#session.discard(target);
      placeTree(temporary, target);
      this.#db.add(info);
      return 'added';
    });
  }

  #requireReferences(info: PathInfo): void {
    const missing = info.references.find((path) => path !== info.storePath && !this.#db.has(path));
    if (missing === undefined) return;
    throw new NixError(
      'NIX_REFERENCE_MISSING',
      `Cannot add "${info.storePath}" to ${this.name}: "${missing}", which it refers to, is not there`,
      { hint: 'Import what a path refers to before the path itself' },
    );
  }

  #open(): StoreDatabase {
    if (this.#closing.signal.aborted) throw storeClosed(this.name);
    return this.#db;
  }
}

/** Addresses that only a signature can vouch for (see {@link provingContentAddress}) are passed over. */
async function verifyContentAddress(info: PathInfo, content: string, origin: string): Promise<void> {
  const ca = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  if (ca === undefined) return;
  if (ca.method === 'nar') {
    if (ca.algorithm !== 'sha256' || info.references.includes(info.storePath)) return;
    const expected = narHashOf(ca.digest);
    if (expected !== info.narHash)
      throw mismatch('NIX_CONTENT_MISMATCH', info, { got: info.narHash, expected, origin });
    return;
  }
  const digest = await hashPlainFile(content, ca.algorithm);
  const expected = Buffer.from(ca.digest).toString('hex');
  if (digest !== expected) throw mismatch('NIX_CONTENT_MISMATCH', info, { got: digest, expected, origin });
}

/** In base 16, or words when it is no plain file. */
async function hashPlainFile(path: string, algorithm: string): Promise<string> {
  const { mode } = await lstat(path);
  if ((mode & 0o170111) !== 0o100000) return 'no plain file';
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function mismatch(
  code: 'NIX_NAR_SIZE_MISMATCH' | 'NIX_NAR_HASH_MISMATCH' | 'NIX_CONTENT_MISMATCH',
  info: PathInfo,
  { got, expected, origin }: { got: string; expected: string | number; origin: string },
): NixError {
  const what = { NIX_NAR_SIZE_MISMATCH: 'NAR', NIX_NAR_HASH_MISMATCH: 'NAR hash', NIX_CONTENT_MISMATCH: 'content' }[
    code
  ];
  return new NixError(
    code,
    `Cannot import "${info.storePath}" from "${origin}": its ${what} is ${got}, expected ${expected}`,
    {
      hint: 'The source is damaged: copy the path there again, or take it from another one',
    },
  );
}

function storeClosed(name: string): NixError {
  return new NixError('NIX_STORE_CLOSED', `Cannot use ${name}: it is closed`);
}
