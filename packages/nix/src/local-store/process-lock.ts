import { DatabaseSync } from 'node:sqlite';
import { systemErrorCode } from '../nix-error.ts';

/**
 * Takes a lock on `file` that lasts as long as this process keeps it, however it ends; undefined when another one holds it.
 *
 * An empty SQLite database locked exclusively: Node has no file locks of its own, and a process id says nothing across containers.
 */
export function tryLock(file: string): Disposable | undefined {
  const db = new DatabaseSync(file, { timeout: 0 });
  try {
    // In memory, for the journal would be one more file beside the lock.
    db.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if (isBusy(error)) return undefined;
    throw error;
  }
  return { [Symbol.dispose]: () => void (db.isOpen && db.close()) };
}

/** Whether SQLite says that somebody else holds a lock (SQLITE_BUSY, SQLITE_LOCKED). */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error) & 0xff;
  return code === 5 || code === 6;
}

/** Whether SQLite (SQLITE_FULL, SQLITE_IOERR_SHMSIZE) or the system says that the disk is full. */
export function isFull(error: unknown): boolean {
  return [13, 4874].includes(resultCode(error)) || ['ENOSPC', 'EDQUOT'].includes(systemErrorCode(error) ?? '');
}

/** The extended result code of an error of SQLite, 0 for any other. */
function resultCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : 0;
}
