import { settled } from '../abortable.ts';
import { lstatSync } from 'node:fs';
import type { AddOptions } from '../closure/path-source.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { removeTree } from '../nar/remove-tree.ts';
import { NixError } from '../nix-error.ts';
import { freshMark } from './durability.ts';
import type { StoreParts } from './store-parts.ts';
import { moveTree, placeTree } from './store-session.ts';
import { unpackPath } from './unpack-path.ts';

/** Unpacks, verifies and records a path; when it fails, nothing is left of it. The rest is said at {@link LocalStore.add}. */
export async function importPath(
  parts: StoreParts,
  info: PathInfo,
  nar: AsyncIterable<Uint8Array>,
  { origin = 'its source', references, ...options }: AddOptions & { signal: AbortSignal },
): Promise<'added' | 'present'> {
  const { session } = parts;
  const temporary = session.temporaryPath();
  const failed = new AbortController();
  references?.catch((error: unknown) => failed.abort(error));
  const signal = AbortSignal.any([options.signal, failed.signal]);
  using _hold = session.hold([info.storePath, ...info.references]);
  try {
    if (references === undefined) requireReferences(parts, info);
  } catch (error) {
    await nar[Symbol.asyncIterator]().return?.();
    throw error;
  }
  try {
    await unpackPath(info, nar, temporary, { signal, origin });
    if (references !== undefined) await settled(references, signal);
    signal.throwIfAborted();
    return record(parts, info, temporary);
  } finally {
    await removeTree(temporary);
  }
}

/**
 * Renames and records in one transaction: whatever is in the store folder without a record was left by a crash.
 * Should the machine stop before content and record are on the disk, the next open makes the two agree.
 */
function record(parts: StoreParts, info: PathInfo, temporary: string): 'added' | 'present' {
  const { db, session } = parts;
  const target = parts.realPath(info.storePath);
  try {
    return db.transaction(() => {
      if (db.has(info.storePath)) return 'present';
      requireReferences(parts, info);
      db.add(info, { lastUsed: Date.now(), mark: freshMark() });
      if (lstatSync(target, { throwIfNoEntry: false }) !== undefined) session.discard(target);
      placeTree(temporary, target);
      return 'added';
    });
  } catch (error) {
    // Its record was undone: back to where it is removed, unless somebody else has recorded the path meanwhile.
    const isPlaced = lstatSync(temporary, { throwIfNoEntry: false }) === undefined;
    if (isPlaced) db.transaction(() => db.has(info.storePath) || moveTree(target, temporary));
    throw error;
  }
}

function requireReferences({ db, name }: StoreParts, info: PathInfo): void {
  const missing = info.references.find((path) => path !== info.storePath && !db.has(path));
  if (missing === undefined) return;
  throw new NixError(
    'NIX_REFERENCE_MISSING',
    `Cannot add "${info.storePath}" to ${name}: "${missing}", which it refers to, is not there`,
    { hint: 'Import what a path refers to before the path itself' },
  );
}
