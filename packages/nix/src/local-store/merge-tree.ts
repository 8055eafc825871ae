import {
  chmodSync,
  constants,
  closeSync,
  fchmodSync,
  fstatSync,
  futimesSync,
  lstatSync,
  lutimesSync,
  openSync,
  readdirSync,
  renameSync,
} from 'node:fs';
import { MTIME, sealDirectory } from '../nar/canonical-metadata.ts';
import { childPath } from '../nar/walk-tree.ts';

/**
 * Makes the tree at `target` equal to the one at `fresh` by moving every file and link of `fresh` into its place, each in one step.
 * Folders that are in both stay the same ones: whoever has them open or mounted sees the repaired content, and whoever runs or reads an
 * old file keeps that until it closes it. What has no place in `fresh` is given to `discard`.
 */
export function mergeTree(fresh: Buffer, target: Buffer, discard: (path: Buffer) => void): void {
  const isFolder = lstatSync(fresh).isDirectory();
  const there = lstatSync(target, { throwIfNoEntry: false });
  if (isFolder && there?.isDirectory() === true) return mergeFolder(fresh, target, discard);
  // A folder goes nowhere by being renamed over, and nothing but an empty folder is replaced by one.
  if (there !== undefined && (isFolder || there.isDirectory())) discard(target);
  // Only root may move a folder that it may not write to.
  if (isFolder) chmodSync(fresh, 0o755);
  renameSync(fresh, target);
  if (isFolder) sealDirectory(target);
}

function mergeFolder(fresh: Buffer, target: Buffer, discard: (path: Buffer) => void): void {
  chmodSync(fresh, 0o755);
  chmodSync(target, 0o755);
  const names = readdirSync(fresh, { encoding: 'buffer' });
  const wanted = new Set(names.map((name) => name.toString('latin1')));
  for (const name of readdirSync(target, { encoding: 'buffer' })) {
    if (!wanted.has(name.toString('latin1'))) discard(childPath(target, name));
  }
  for (const name of names) mergeTree(childPath(fresh, name), childPath(target, name), discard);
  sealDirectory(target);
}

/** Gives everything in a tree, whose content is right, the metadata of a store. */
export function sealTree(root: string): void {
  const pending: Buffer[] = [Buffer.from(root)];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const stats = lstatSync(path);
    if (stats.isSymbolicLink()) {
      lutimesSync(path, MTIME, MTIME);
    } else if (stats.isDirectory()) {
      for (const name of readdirSync(path, { encoding: 'buffer' })) pending.push(childPath(path, name));
      sealDirectory(path);
    } else {
      sealFile(path);
    }
  }
}

function sealFile(path: Buffer): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    fchmodSync(fd, (fstatSync(fd).mode & 0o100) === 0 ? 0o444 : 0o555);
    futimesSync(fd, MTIME, MTIME);
  } finally {
    closeSync(fd);
  }
}
