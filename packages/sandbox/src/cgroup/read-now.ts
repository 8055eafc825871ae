import { readFileSync } from 'node:fs';
import { hasErrno } from '../file-errors.ts';

/**
 * Text of a small file that the kernel makes up; undefined when it, or its cgroup, is not there. At once, for it comes out of
 * memory: an asynchronous read of a file whose size is not known takes 64 KiB and four turns of the event loop, for every figure
 * of every sandbox.
 */
export function readNow(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
