import { DatabaseSync } from 'node:sqlite';
import { isBusy } from '../sqlite-error.ts';

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
