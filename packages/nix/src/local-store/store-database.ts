import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import type { NarHash } from '../formats/hash.ts';
import type { PathInfo } from '../formats/path-info.ts';
import type { StorePath } from '../formats/store-path.ts';
import { NixError } from '../nix-error.ts';
import { isBusy, isFull } from '../sqlite-error.ts';
import { migrate, SCHEMA_VERSION } from './store-schema.ts';

/** Milliseconds to wait for other processes; they hold the lock for a few renames and rows. */
const BUSY_TIMEOUT = 10_000;

const STATEMENTS = {
  version: 'PRAGMA data_version',
  path: 'SELECT * FROM paths WHERE path = ?',
  between: 'SELECT path FROM paths WHERE path BETWEEN ? AND ? LIMIT 1',
  references: 'SELECT reference FROM refs WHERE referrer = ? ORDER BY reference',
  addPath: `INSERT INTO paths (path, nar_hash, nar_size, deriver, signatures, ca, last_used, unsynced)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  addReference: 'INSERT INTO refs VALUES (?, ?)',
  paths: 'SELECT path FROM paths ORDER BY path',
  referrers: 'SELECT referrer FROM refs WHERE reference = ? AND referrer <> reference',
  remove: 'DELETE FROM paths WHERE path = ?',
  uses: 'SELECT path, nar_size, last_used FROM paths',
  size: 'SELECT count(*) AS paths, total(nar_size) AS bytes FROM paths',
  allReferences: 'SELECT referrer, reference FROM refs WHERE referrer <> reference',
  touch: 'UPDATE paths SET last_used = max(last_used, ?) WHERE path = ?',
  unsynced: 'SELECT path, unsynced FROM paths WHERE unsynced IS NOT NULL',
  nextUnsynced: 'SELECT path, unsynced FROM paths WHERE unsynced BETWEEN ? AND ? LIMIT ?',
  mark: 'UPDATE paths SET unsynced = ? WHERE path = ?',
  replaceMark: 'UPDATE paths SET unsynced = ? WHERE path = ? AND unsynced = ?',
  roots: 'SELECT path FROM pins UNION SELECT path FROM holds',
  pins: 'SELECT name, path FROM pins ORDER BY name, path',
  addPin: 'INSERT INTO pins VALUES (?, ?)',
  removePins: 'DELETE FROM pins WHERE name = ?',
  addHold: 'INSERT OR IGNORE INTO holds VALUES (?, ?)',
  removeHold: 'DELETE FROM holds WHERE session = ? AND path = ?',
  removeOtherHolds: 'DELETE FROM holds WHERE session NOT IN (SELECT value FROM json_each(?))',
} as const;

/** How many paths' information is kept in memory; of a path with ten references that is about a kilobyte. */
const MAX_KNOWN = 4096;

/** What garbage collection needs to know of a valid path. */
export interface PathUse {
  readonly path: StorePath;
  readonly narSize: number;
  /** Milliseconds since 1970. */
  readonly lastUsed: number;
}

/** A valid path whose content may not be on the disk yet. */
export interface UnsyncedPath {
  readonly path: StorePath;
  readonly mark: string;
}

/** The tables of a local store: valid paths, what refers to what, pins and holds. Methods that write want a {@link transaction} around them. */
export class StoreDatabase implements Disposable {
  readonly #file: string;
  readonly #db: DatabaseSync;
  readonly #statements: Record<keyof typeof STATEMENTS, StatementSync>;
  /** What was read before: the same closures are asked for with every start of a workload. */
  readonly #known = new Map<StorePath, PathInfo>();
  /** Of the database, when that was read. Another number: another process has written to it. */
  #version: SQLOutputValue | undefined;

  /** @throws {@link NixError} `NIX_STORE_INVALID` when the file is no such database, or of a later version. */
  constructor(file: string) {
    this.#file = file;
    try {
      this.#db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT, enableForeignKeyConstraints: true });
      this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
      const version = this.transaction(() => migrate(this.#db));
      if (version !== SCHEMA_VERSION) {
        throw unusable(file, `it has version ${version}, this program knows version ${SCHEMA_VERSION}`);
      }
    } catch (error) {
      throw error instanceof NixError
        ? error
        : unusable(file, error instanceof Error ? error.message : String(error), error);
    }
    const prepared = Object.entries(STATEMENTS).map(([name, sql]) => [name, this.#db.prepare(sql)] as const);
    this.#statements = Object.fromEntries(prepared) as Record<keyof typeof STATEMENTS, StatementSync>;
  }

  has(path: StorePath): boolean {
    return this.#statements.path.get(path) !== undefined;
  }

  /** Whether there is a path whose text begins with `prefix`. */
  hasPrefix(prefix: string): boolean {
    return this.#statements.between.get(prefix, `${prefix}\u{10ffff}`) !== undefined;
  }

  /** Those of `paths` that are not recorded, each once. */
  missing(paths: Iterable<StorePath>): StorePath[] {
    this.#dropOutdated();
    return [...new Set(paths)].filter((path) => !this.#known.has(path) && !this.has(path));
  }

  get(path: StorePath): PathInfo | undefined {
    this.#dropOutdated();
    return this.#get(path);
  }

  /** All that can be reached from `roots`, in no particular order; frozen. */
  reachable(roots: Iterable<StorePath>): PathInfo[] {
    this.#dropOutdated();
    const infos: PathInfo[] = [];
    const wanted = new Set(roots);
    // Grows while it is walked.
    for (const path of wanted) {
      const info = this.#get(path);
      if (info === undefined) continue;
      infos.push(info);
      for (const reference of info.references) wanted.add(reference);
    }
    return infos;
  }

  #get(path: StorePath): PathInfo | undefined {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const info = this.#read(path);
    if (info === undefined) return undefined;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(path, info);
    return info;
  }

  #read(path: StorePath): PathInfo | undefined {
    const row = this.#statements.path.get(path);
    if (row === undefined) return undefined;
    const { deriver, ca } = row;
    const references = this.#statements.references.all(path).map((reference) => reference['reference'] as StorePath);
    return Object.freeze({
      storePath: path,
      narHash: row['nar_hash'] as NarHash,
      narSize: Number(row['nar_size']),
      references: Object.freeze(references),
      ...(typeof deriver === 'string' ? { deriver } : {}),
      signatures: Object.freeze(JSON.parse(String(row['signatures'])) as string[]),
      ...(typeof ca === 'string' ? { ca } : {}),
    });
  }

  /** Forgets what was read before another process wrote. What this one removes, it forgets then. */
  #dropOutdated(): void {
    const version = this.#statements.version.get()?.['data_version'];
    if (version === this.#version) return;
    this.#version = version;
    this.#known.clear();
  }

  /** Records a path; everything it refers to must be recorded. */
  add(info: PathInfo, { lastUsed, mark }: { lastUsed: number; mark: string }): void {
    const { storePath, narHash, narSize, deriver, signatures, ca } = info;
    const texts = [deriver ?? null, JSON.stringify(signatures), ca ?? null] as const;
    this.#statements.addPath.run(storePath, narHash, narSize, ...texts, lastUsed, mark);
    for (const reference of new Set(info.references)) this.#statements.addReference.run(storePath, reference);
  }

  paths(): StorePath[] {
    return this.#statements.paths.all().map(pathOf);
  }

  /** Forgets a path and everything that refers to it, so that a recorded path always has its whole closure. @returns all of them. */
  forget(path: StorePath): StorePath[] {
    if (!this.has(path)) return [];
    const doomed = new Set([path]);
    // Grows while it is walked.
    for (const next of doomed) {
      for (const { referrer } of this.#statements.referrers.all(next)) doomed.add(referrer as StorePath);
    }
    for (const next of doomed) {
      this.#statements.remove.run(next);
      this.#known.delete(next);
    }
    return [...doomed];
  }

  /** How many valid paths there are, and the bytes of their NARs. */
  size(): { paths: number; bytes: number } {
    const row = this.#statements.size.get();
    return { paths: Number(row?.['paths']), bytes: Number(row?.['bytes']) };
  }

  uses(): PathUse[] {
    return this.#statements.uses.all().map((row) => ({
      path: pathOf(row),
      narSize: Number(row['nar_size']),
      lastUsed: Number(row['last_used']),
    }));
  }

  /** Who refers to what, self-references aside. */
  allReferences(): { referrer: StorePath; reference: StorePath }[] {
    return this.#statements.allReferences.all() as { referrer: StorePath; reference: StorePath }[];
  }

  touch(path: StorePath, lastUsed: number): void {
    this.#statements.touch.run(lastUsed, path);
  }

  unsynced(): UnsyncedPath[] {
    return this.#statements.unsynced.all().map(unsyncedOf);
  }

  /** Up to `count` whose marks begin with `prefix`. */
  nextUnsynced(prefix: string, count: number): UnsyncedPath[] {
    return this.#statements.nextUnsynced.all(prefix, `${prefix}\u{10ffff}`, count).map(unsyncedOf);
  }

  hasMark({ path, mark }: UnsyncedPath): boolean {
    return this.#statements.path.get(path)?.['unsynced'] === mark;
  }

  setMark(path: StorePath, mark: string): void {
    this.#statements.mark.run(mark, path);
  }

  /** Does nothing when the path has another mark by now: then it was removed and added again, or repaired. */
  replaceMark({ path, mark }: UnsyncedPath, replacement: string | null): void {
    this.#statements.replaceMark.run(replacement, path, mark);
  }

  /** Everything that is pinned or held, valid or not. */
  roots(): StorePath[] {
    return this.#statements.roots.all().map(pathOf);
  }

  pins(): Map<string, StorePath[]> {
    const pins = new Map<string, StorePath[]>();
    for (const row of this.#statements.pins.all()) {
      const name = String(row['name']);
      pins.set(name, [...(pins.get(name) ?? []), pathOf(row)]);
    }
    return pins;
  }

  setPin(name: string, paths: Iterable<StorePath>): void {
    this.#statements.removePins.run(name);
    for (const path of new Set(paths)) this.#statements.addPin.run(name, path);
  }

  addHold(session: string, path: StorePath): void {
    this.#statements.addHold.run(session, path);
  }

  removeHold(session: string, path: StorePath): void {
    this.#statements.removeHold.run(session, path);
  }

  /** Forgets the holds of all sessions but these. */
  keepHoldsOf(sessions: readonly string[]): void {
    this.#statements.removeOtherHolds.run(JSON.stringify(sessions));
  }

  /**
   * Runs `action` while no other process can write; what it wrote is undone when it throws.
   *
   * @param durable wait until it is on the disk; otherwise only the order in which things get there is certain.
   * @throws {@link NixError} `NIX_STORE_BUSY`, `NIX_STORE_FULL`.
   */
  transaction<T>(action: () => T, { durable = false } = {}): T {
    if (durable) this.#db.exec('PRAGMA synchronous = FULL');
    try {
      this.#begin();
      const result = action();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#known.clear();
      if (isFull(error)) throw storeFull(this.#file, error);
      throw error;
    } finally {
      if (durable) this.#db.exec('PRAGMA synchronous = NORMAL');
    }
  }

  [Symbol.dispose](): void {
    if (this.#db.isOpen) this.#db.close();
  }

  #begin(): void {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
    } catch (error) {
      if (!isBusy(error)) throw error;
      throw new NixError(
        'NIX_STORE_BUSY',
        `Cannot write to the store database "${this.#file}": another process has held it for ${BUSY_TIMEOUT} ms`,
        { hint: `See which one: fuser -v ${this.#file}`, cause: error },
      );
    }
  }
}

/** That the disk has no room for `file`. */
export function storeFull(file: string, cause: unknown): NixError {
  return new NixError('NIX_STORE_FULL', `Cannot write "${file}": no space is left on its disk`, {
    hint: `Free some, for example by collecting garbage; see: df -h -i ${file}`,
    cause,
  });
}

function pathOf(row: Record<string, SQLOutputValue>): StorePath {
  return row['path'] as StorePath;
}

function unsyncedOf(row: Record<string, SQLOutputValue>): UnsyncedPath {
  return { path: pathOf(row), mark: String(row['unsynced']) };
}

function unusable(file: string, why: string, cause?: unknown): NixError {
  return new NixError('NIX_STORE_INVALID', `Cannot open the store database "${file}": ${why}`, { cause });
}
