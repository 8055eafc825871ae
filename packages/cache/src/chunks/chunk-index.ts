import { rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import type { StorePath } from '@nex-nix/nix';
import { type ChunkId, packChunkIds } from './chunk-id.ts';
import { chunkStarts, type Manifest } from '../manifests/manifest.ts';
import type { Mentions } from '../manifests/mentions.ts';

/** Chunks of all paths together: about 100 GB of NARs, 30 MB on disk. */
const MAX_CHUNKS = 400_000;
/** Milliseconds to wait for other processes; they hold the lock for some rows. */
const BUSY_TIMEOUT = 1000;
/** Paths that are looked at for one chunk: the last may be gone, which leaves the chunk in one before. */
const MAX_PLACES = 3;

const VERSION = 1;
// Ids are never used again: chunks of a path that was forgotten must not become those of another.
const SCHEMA = `
  DROP TABLE IF EXISTS paths;
  DROP TABLE IF EXISTS chunks;
  CREATE TABLE paths (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, nar_size INTEGER NOT NULL,
    chunks INTEGER NOT NULL, hashes TEXT NOT NULL, mentions INTEGER NOT NULL, mention_table BLOB NOT NULL) STRICT;
  CREATE TABLE chunks (chunk BLOB NOT NULL, path INTEGER NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (chunk, path))
    STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${VERSION}`;

const STATEMENTS = {
  places: `SELECT chunks.path AS id, start, paths.path FROM chunks JOIN paths ON paths.id = chunks.path
    WHERE chunk = ? ORDER BY chunks.path DESC LIMIT ${MAX_PLACES}`,
  path: 'SELECT * FROM paths WHERE id = ?',
  paths: 'SELECT id, path, chunks FROM paths ORDER BY id',
  count: 'SELECT coalesce(sum(chunks), 0) AS count FROM paths',
  addPath: `INSERT INTO paths (path, nar_size, chunks, hashes, mentions, mention_table) VALUES (?, ?, ?, ?, ?, ?)`,
  addChunk: 'INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)',
  removePath: 'DELETE FROM paths WHERE id = ?',
  forgetPath: 'DELETE FROM paths WHERE path = ?',
  removeChunks: 'DELETE FROM chunks WHERE path NOT IN (SELECT id FROM paths)',
} as const;

/** Where a chunk was. */
export interface ChunkPlace {
  /** Of the path, for {@link ChunkIndex.mentions}. */
  readonly id: number;
  readonly path: StorePath;
  /** Offset in the NAR of the path. */
  readonly start: number;
}

/** How large an index may become. */
export interface ChunkIndexOptions {
  /** Chunks of all paths together. @default 400000 */
  maxChunks?: number | undefined;
}

/**
 * Which chunks the paths of a store consist of, in a file.
 *
 * Nothing depends on it: what it says is to be verified, what it does not say costs a fetch. So no failure of the file ends
 * anything. It is not waited for until it is on the disk, and a file that is damaged is begun anew. Several processes may use one file.
 */
export class ChunkIndex implements Disposable {
  readonly #file: string;
  readonly #isThere: (path: StorePath) => boolean;
  readonly #maxChunks: number;
  /** Undefined when there can be none, for example where nothing can be written. */
  #tables: Tables | undefined;
  /** Other processes add to it as well: about right is enough. */
  #chunks = 0;

  /** @param isThere - whether a path is still worth remembering. */
  constructor(file: string, isThere: (path: StorePath) => boolean, { maxChunks = MAX_CHUNKS }: ChunkIndexOptions = {}) {
    this.#file = file;
    this.#isThere = isThere;
    this.#maxChunks = maxChunks;
    this.#open();
  }

  /** Where the chunk was, last first; a few places at most. */
  places(chunk: ChunkId): ChunkPlace[] {
    const rows = this.#attempt(({ places }) => places.all(packChunkIds([chunk])));
    return (rows ?? []).map(({ id, path, start }) => ({
      id: Number(id),
      path: path as StorePath,
      start: Number(start),
    }));
  }

  /** The mentions in the NAR of a path. */
  mentions(id: number): { narSize: number; mentions: Mentions | undefined } | undefined {
    const row = this.#attempt(({ path }) => path.get(id));
    if (row === undefined) return undefined;
    const { nar_size: narSize, hashes, mentions: count, mention_table: table } = row;
    const mentions = { hashes: String(hashes).split(' '), count: Number(count), table: table as Uint8Array };
    return { narSize: Number(narSize), mentions: mentions.count === 0 ? undefined : mentions };
  }

  /** Remembers what a path consists of, in place of what was known of it. */
  add(path: StorePath, manifest: Manifest): void {
    const { narSize, chunks, mentions } = manifest;
    const starts = chunkStarts(manifest);
    const ids = packChunkIds(chunks.map(({ id }) => id));
    const idSize = ids.length / Math.max(1, chunks.length);
    this.#attempt((tables) =>
      transaction(tables.db, () => {
        tables.forgetPath.run(path);
        const texts: SQLInputValue[] = [mentions?.hashes.join(' ') ?? '', mentions?.count ?? 0];
        const table = mentions?.table ?? new Uint8Array();
        const { lastInsertRowid: id } = tables.addPath.run(path, narSize, chunks.length, ...texts, table);
        for (const [i, start] of starts.entries()) {
          tables.addChunk.run(ids.subarray(i * idSize, (i + 1) * idSize), id, start);
        }
      }),
    );
    this.#chunks += chunks.length;
    if (this.#chunks > this.#maxChunks) this.#shrink();
  }

  [Symbol.dispose](): void {
    this.#tables?.db.close();
    this.#tables = undefined;
  }

  /** Forgets the paths that are gone, then the oldest, until there is room for some time. */
  #shrink(): void {
    this.#chunks =
      this.#attempt((tables) =>
        transaction(tables.db, () => {
          const paths = tables.paths.all();
          const kept = paths.filter(({ path }) => this.#isThere(path as StorePath));
          let count = kept.reduce((sum, { chunks }) => sum + Number(chunks), 0);
          while (count > (this.#maxChunks * 3) / 4) count -= Number(kept.shift()?.['chunks']);
          const keptIds = new Set(kept.map(({ id }) => id));
          for (const { id } of paths) if (!keptIds.has(id)) tables.removePath.run(id as number);
          tables.removeChunks.run();
          return countChunks(tables);
        }),
      ) ?? 0;
  }

  /** What `action` returns, or undefined when the tables cannot be used, now or at all. */
  #attempt<T>(action: (tables: Tables) => T): T | undefined {
    try {
      return this.#tables === undefined ? undefined : action(this.#tables);
    } catch (error) {
      if (isDamaged(error)) this.#beginAnew();
      else if (!isSqlite(error)) throw error;
      // Busy, or the disk is full: the next attempt may fare better.
      return undefined;
    }
  }

  #open(): void {
    try {
      this.#tables = openTables(this.#file);
      this.#chunks = countChunks(this.#tables);
    } catch (error) {
      if (isDamaged(error)) this.#beginAnew();
      else if (!isSqlite(error)) throw error;
    }
  }

  /** Another process that has the old file goes on with it, and whoever comes later has the new one. */
  #beginAnew(): void {
    this[Symbol.dispose]();
    try {
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${this.#file}${suffix}`, { force: true });
      this.#tables = openTables(this.#file);
    } catch (error) {
      // There is no index then.
      if (!isSqlite(error) && !(error instanceof Error && 'syscall' in error)) throw error;
    }
    this.#chunks = 0;
  }
}

type Tables = Record<keyof typeof STATEMENTS, StatementSync> & { readonly db: DatabaseSync };

function openTables(file: string): Tables {
  const db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT });
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF');
    transaction(db, () => {
      const version = db.prepare('PRAGMA user_version').get()?.['user_version'];
      if (version !== VERSION) db.exec(SCHEMA);
    });
    const statements = Object.entries(STATEMENTS).map(([name, sql]) => [name, db.prepare(sql)] as const);
    return { ...(Object.fromEntries(statements) as Record<keyof typeof STATEMENTS, StatementSync>), db };
  } catch (error) {
    db.close();
    throw error;
  }
}

function transaction<T>(db: DatabaseSync, action: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = action();
    db.exec('COMMIT');
    return result;
  } finally {
    if (db.isTransaction) db.exec('ROLLBACK');
  }
}

function countChunks({ count }: Tables): number {
  return Number(count.get()?.['count']);
}

function isSqlite(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_SQLITE_ERROR';
}

/** Whether SQLite says that the file is no database, damaged, or holds something else (SQLITE_NOTADB, _CORRUPT, _ERROR). */
function isDamaged(error: unknown): boolean {
  return isSqlite(error) && [26, 11, 1].includes(((error as { errcode?: number }).errcode ?? 0) & 0xff);
}
