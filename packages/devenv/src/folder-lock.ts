import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { DevError } from './dev-error.ts';
import { readIfPresent, writePrivateFile } from './write-file.ts';

/** SQLite's result code for a lock that somebody else holds. */
const SQLITE_BUSY = 5;

/** Whether somebody holds `<file>`. Nothing is changed; one that is not there nobody holds. */
export function isFolderLocked(file: string): boolean {
  if (!existsSync(file)) return false;
  using database = new DatabaseSync(file);
  try {
    database.exec('BEGIN EXCLUSIVE');
    return false;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return true;
    throw error;
  }
}

/**
 * Holds `<file>` until it is disposed of or the process ends, however it ends: the lock is the operating system's (that of an open SQLite
 * transaction), so a killed holder leaves none behind. Beside it, `<file>.pid` tells who holds it.
 */
export async function lockFolder(file: string, folder: string): Promise<Disposable> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const pidFile = `${file}.pid`;
  const database = new DatabaseSync(file);
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw error;
    const pid = (await readIfPresent(pidFile))?.trim();
    throw new DevError(
      'DEVENV_ALREADY_RUNNING',
      `Cannot start dev services in "${folder}": process ${pid ?? 'unknown'} runs them`,
      {
        hint: 'See them: nex dev status. End them: nex dev down. Or choose another data folder',
        cause: error,
      },
    );
  }
  await writePrivateFile(pidFile, `${process.pid}\n`);
  let held = true;
  return {
    [Symbol.dispose]() {
      if (held) database.close();
      held = false;
    },
  };
}
