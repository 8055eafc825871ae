import { systemErrorCode } from './nix-error.ts';

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
