import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import type { SignalOptions } from '../abortable.ts';
import { parseNarHash } from '../formats/hash.ts';
import { type PathInfo, sortPaths } from '../formats/path-info.ts';
import { parseStorePath, type StorePath } from '../formats/store-path.ts';
import { NixError } from '../nix-error.ts';
import { isBusy } from '../sqlite-error.ts';

/** The only layout known: Nix has had it since 2012, version 2.36 included; what was added since is in tables of their own. */
const SCHEMA = '10';
/** Milliseconds to wait for a database that Nix has locked, and between two attempts. */
const BUSY_TIMEOUT = 5000;
const BUSY_INTERVAL = 50;
/** Reading is synchronous; after this many ms others get their turn. */
const TIME_SLICE = 5;

const PATH = 'SELECT id, hash, deriver, narSize, sigs, ca FROM ValidPaths WHERE path = ?';
const REFERENCES = `SELECT path FROM Refs JOIN ValidPaths ON reference = id WHERE referrer = ?`;

/** The path infos of those of some paths that are valid; of their whole closures if so asked. */
export interface NixDatabaseQuery extends SignalOptions {
  readonly recursive: boolean;
}

/**
 * Reads the SQLite database that Nix keeps in `<stateDir>/db`, all at one moment in time, while Nix may write to it. It is opened
 * read-only for each question. Its layout: nothing but Nix's own source tells (libstore, `schema.sql`).
 *
 * @throws {@link NixError} `NIX_DATABASE_UNUSABLE` when it cannot be read, is locked, is of another layout, or is damaged.
 */
export async function queryNixDatabase(
  stateDir: string,
  paths: readonly StorePath[],
  { recursive, signal }: NixDatabaseQuery,
): Promise<PathInfo[]> {
  const file = join(stateDir, 'db/db.sqlite');
  const giveUp = performance.now() + BUSY_TIMEOUT;
  for (;;) {
    signal?.throwIfAborted();
    try {
      await requireSchema(join(stateDir, 'db/schema'));
      return await query(file, paths, { recursive, signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (!isBusy(error) || performance.now() > giveUp) throw unusable(file, error);
    }
    // Rarely, and never for long: with a write-ahead log, readers wait for nobody but its recovery.
    await delay(BUSY_INTERVAL, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

async function requireSchema(file: string): Promise<void> {
  const schema = (await readFile(file, 'utf8')).trim();
  if (schema !== SCHEMA) throw new Error(`its schema is ${JSON.stringify(schema)}, expected "${SCHEMA}"`);
}

async function query(
  file: string,
  roots: readonly StorePath[],
  { recursive, signal }: NixDatabaseQuery,
): Promise<PathInfo[]> {
  using db = new DatabaseSync(file, { readOnly: true, timeout: 0 });
  db.exec('BEGIN');
  const select = { path: db.prepare(PATH), references: db.prepare(REFERENCES) };
  const infos: PathInfo[] = [];
  const wanted = new Set(roots);
  let sliceEnd = performance.now() + TIME_SLICE;
  // Grows while it is walked.
  for (const path of wanted) {
    const info = readPath(select, path);
    if (info === undefined) continue;
    infos.push(info);
    if (recursive) for (const reference of info.references) wanted.add(reference);
    if (performance.now() < sliceEnd) continue;
    await setImmediate();
    signal?.throwIfAborted();
    sliceEnd = performance.now() + TIME_SLICE;
  }
  return infos;
}

function readPath(
  select: { path: StatementSync; references: StatementSync },
  storePath: StorePath,
): PathInfo | undefined {
  const row = select.path.get(storePath);
  if (row === undefined) return undefined;
  const deriver = textOf(row['deriver']);
  const ca = textOf(row['ca']);
  const narSize = row['narSize'];
  if (typeof narSize !== 'number' || narSize <= 0) throw new Error(`it tells no NAR size of "${storePath}"`);
  const references = select.references.all(row['id'] ?? null).map(({ path }) => parseStorePath(String(path)));
  return {
    storePath,
    narHash: parseNarHash(String(row['hash'])),
    narSize,
    references: sortPaths(references),
    ...(deriver === '' ? {} : { deriver: parseStorePath(deriver) }),
    signatures: textOf(row['sigs']).split(' ').filter(Boolean).sort(),
    ...(ca === '' ? {} : { ca }),
  };
}

function textOf(value: SQLOutputValue | undefined): string {
  return typeof value === 'string' ? value : '';
}

function unusable(file: string, cause: unknown): NixError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NixError('NIX_DATABASE_UNUSABLE', `Cannot read the Nix database "${file}": ${why}`, {
    hint: 'Ask the "nix" command instead: reader "command"',
    cause,
  });
}
