import { chmod, lstat, readdir, rm } from 'node:fs/promises';
import { childPath } from './walk-tree.ts';
import { systemErrorCode } from '../nix-error.ts';

/** Removes a file or a folder with everything in it, read-only folders included. Absent is fine. */
export async function removeTree(path: string): Promise<void> {
  await makeWritable(Buffer.from(path));
  await rm(path, { recursive: true, force: true });
}

async function makeWritable(root: Buffer): Promise<void> {
  const pending = [root];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (!(await isDirectory(path))) continue;
    await chmod(path, 0o755);
    for (const entry of await readdir(path, { encoding: 'buffer', withFileTypes: true })) {
      if (entry.isDirectory()) pending.push(childPath(path, entry.name));
    }
  }
}

async function isDirectory(path: Buffer): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
