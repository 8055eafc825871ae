import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import type { NarHash } from '../formats/hash.ts';
import { NixError } from '../nix-error.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { isBusy } from './process-lock.ts';
import type { StorePath } from '../formats/store-path.ts';

/** Goes up with every change of the tables. */
const VERSION = 1;
/** Milliseconds to wait for other processes; they hold the lock for a rename and a few rows. */
const BUSY_TIMEOUT = 10_000;

const SCHEMA = `
  CREATE TABLE paths (
    path TEXT PRIMARY KEY,
    nar_hash TEXT NOT NULL,
    nar_size INTEGER NOT NULL,
    deriver TEXT,
    signatures TEXT NOT NULL,
    ca TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE refs (
    referrer TEXT NOT NULL REFERENCES paths (path) ON DELETE CASCADE,
    reference TEXT NOT NULL REFERENCES paths (path) ON DELETE CASCADE,
    PRIMARY KEY (referrer, reference)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX refs_by_reference ON refs (reference);
  PRAGMA user_version = ${VERSION};
`;

/** The table of valid paths of a local store. All access to SQLite of this package is here and in `process-lock.ts`. */
export class StoreDatabase implements Disposable {
  readonly #file: string;
  readonly #db: DatabaseSync;
  readonly #statements: Record<
    'path' | 'references' | 'addPath' | 'addReference' | 'paths' | 'referrers' | 'remove',
    StatementSync
  >;

  /** @throws {@link NixError} `NIX_STORE_INVALID` when the file is no such database, or of a later version. */
  constructor(file: string) {
    this.#file = file;
    try {
      this.#db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT, enableForeignKeyConstraints: true });
      this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
      this.transaction(() => this.#createTables(file));
    } catch (error) {
      throw error instanceof NixError
        ? error
        : unusable(file, error instanceof Error ? error.message : String(error), error);
    }
    this.#statements = {
      path: this.#db.prepare('SELECT * FROM paths WHERE path = ?'),
      references: this.#db.prepare('SELECT reference FROM refs WHERE referrer = ? ORDER BY reference'),
      addPath: this.#db.prepare('INSERT INTO paths VALUES (?, ?, ?, ?, ?, ?)'),
      addReference: this.#db.prepare('INSERT INTO refs VALUES (?, ?)'),
      paths: this.#db.prepare('SELECT path FROM paths'),
      referrers: this.#db.prepare('SELECT referrer FROM refs WHERE reference = ? AND referrer <> reference'),
      remove: this.#db.prepare('DELETE FROM paths WHERE path = ?'),
    };
  }

  has(path: StorePath): boolean {
    return this.#statements.path.get(path) !== undefined;
  }

  get(path: StorePath): PathInfo | undefined {
    const row = this.#statements.path.get(path);
    if (row === undefined) return undefined;
    const { deriver, ca } = row;
    return {
      storePath: path,
      narHash: row['nar_hash'] as NarHash,
      narSize: Number(row['nar_size']),
      references: this.#statements.references.all(path).map((reference) => reference['reference'] as StorePath),
      ...(typeof deriver === 'string' ? { deriver } : {}),
      signatures: JSON.parse(String(row['signatures'])) as string[],
      ...(typeof ca === 'string' ? { ca } : {}),
    };
  }

  /** Records a path; everything it refers to must be recorded. */
  add(info: PathInfo): void {
    const { storePath, narHash, narSize, deriver, signatures, ca } = info;
    this.#statements.addPath.run(storePath, narHash, narSize, deriver ?? null, JSON.stringify(signatures), ca ?? null);
    for (const reference of new Set(info.references)) this.#statements.addReference.run(storePath, reference);
  }

  paths(): StorePath[] {
    return this.#statements.paths.all().map(({ path }: Record<string, SQLOutputValue>) => path as StorePath);
  }

  /** Forgets a path and everything that refers to it, so that a recorded path always has its whole closure. */
  remove(path: StorePath): void {
    const doomed = new Set([path]);
    // Grows while it is walked.
    for (const next of doomed) {
      for (const { referrer } of this.#statements.referrers.all(next)) doomed.add(referrer as StorePath);
    }
    for (const next of doomed) this.#statements.remove.run(next);
  }

  /** Runs `action` while no other process can write; what it wrote is undone when it throws. */
  transaction<T>(action: () => T): T {
    this.#begin();
    try {
      const result = action();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
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

  #createTables(file: string): void {
    const version = Number(this.#db.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version === 0) this.#db.exec(SCHEMA);
    else if (version !== VERSION)
      throw unusable(file, `it has version ${version}, this program knows version ${VERSION}`);
  }
}

function unusable(file: string, why: string, cause?: unknown): NixError {
  return new NixError('NIX_STORE_INVALID', `Cannot open the store database "${file}": ${why}`, { cause });
}
