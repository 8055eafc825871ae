import type { SignalOptions } from '../abortable.ts';
import type { PathSource } from '../closure/path-source.ts';
import type { PathInfo } from '../formats/path-info.ts';
import type { StorePath } from '../formats/store-path.ts';
import { NixError } from '../nix-error.ts';
import { checkPath, type Damage } from './check-path.ts';
import { freshMark, isOfThisBoot } from './durability.ts';
import { deleteAll, discardUnrecorded } from './garbage-collection.ts';
import { mergeTree, sealTree } from './merge-tree.ts';
import type { StoreParts } from './store-parts.ts';
import { unpackPath } from './unpack-path.ts';

/** Options of {@link LocalStore.verify}. */
export interface VerifyOptions extends SignalOptions {
  /** What to verify; everything by default. */
  paths?: readonly StorePath[] | undefined;
  /** Where to fetch damaged paths again. Wrong metadata is put right without it. */
  repair?: PathSource | undefined;
  /** Remove what stays damaged, with everything that refers to it, pinned and held or not, and what is in the store folder without a record. */
  remove?: boolean | undefined;
  /** Told of each path once it is done. */
  onProgress?: ((progress: VerifyProgress) => void) | undefined;
}

/** How far a verification is. Bytes are those of uncompressed NARs. */
export interface VerifyProgress {
  readonly storePath: StorePath;
  readonly damage: DamagedPath | undefined;
  readonly checkedPaths: number;
  readonly totalPaths: number;
  /** NAR bytes of the paths checked. */
  readonly checkedBytes: number;
}

/** A valid path whose content was found damaged. */
export interface DamagedPath extends Damage {
  readonly storePath: StorePath;
  readonly outcome: 'kept' | 'repaired' | 'removed';
  /** Why it could not be repaired. */
  readonly error?: Error;
  /** With `removed`: the path and everything that was removed because it referred to it. */
  readonly removed?: readonly StorePath[];
}

/** What a verification found. */
export interface VerifyReport {
  readonly checkedPaths: number;
  readonly checkedBytes: number;
  readonly damaged: readonly DamagedPath[];
  /** Names of what was in the store folder without a record, if everything was verified. Harmless: nobody sees it, and the next open removes it. */
  readonly unrecorded: readonly string[];
}

/** Reads every path and compares it with its record; repairs and removes what is damaged as far as the options say. */
export async function verifyStore(parts: StoreParts, options: VerifyOptions): Promise<VerifyReport> {
  const { db } = parts;
  const { signal } = options;
  const paths = options.paths ?? db.paths();
  const damaged: DamagedPath[] = [];
  let checkedPaths = 0;
  let checkedBytes = 0;
  for (const storePath of paths) {
    signal?.throwIfAborted();
    const info = db.get(storePath);
    if (info === undefined) {
      // Otherwise it was collected since.
      if (options.paths !== undefined) throw notValid(storePath, parts.name);
      continue;
    }
    const damage = await verifyPath(parts, info, options);
    if (damage !== undefined) damaged.push(damage);
    checkedPaths++;
    checkedBytes += info.narSize;
    options.onProgress?.({ storePath, damage, checkedPaths, totalPaths: paths.length, checkedBytes });
  }
  const unrecorded = options.paths === undefined ? await sweepUnrecorded(parts, options) : [];
  return { checkedPaths, checkedBytes, damaged, unrecorded };
}

/**
 * Verifies what an earlier run of the machine had not brought to the disk when it ended; damaged paths are removed with all that
 * refers to them.
 */
export async function verifyUnsynced(
  parts: StoreParts,
  onDamaged: (damage: DamagedPath) => void,
  options: SignalOptions,
): Promise<void> {
  const { db } = parts;
  for (const unsynced of db.unsynced()) {
    options.signal?.throwIfAborted();
    const info = isOfThisBoot(unsynced.mark) ? undefined : db.get(unsynced.path);
    if (info === undefined) continue;
    const damage = await checkPath(info, parts.realPath(unsynced.path), options);
    if (damage === undefined) {
      // Read from the disk, it is on the disk.
      db.transaction(() => db.replaceMark(unsynced, null));
      continue;
    }
    // Another process may be as far, and may have imported it anew: then it has another mark.
    const removed = await removeWithReferrers(parts, info.storePath, () => db.hasMark(unsynced));
    if (removed.length > 0) onDamaged({ ...damage, storePath: info.storePath, outcome: 'removed', removed });
  }
}

async function verifyPath(parts: StoreParts, info: PathInfo, options: VerifyOptions): Promise<DamagedPath | undefined> {
  const { storePath } = info;
  const realPath = parts.realPath(storePath);
  if ((await checkPath(info, realPath, options)) === undefined) return undefined;
  // Perhaps it was being collected, and imported again. Held, it is not.
  using _hold = parts.session.hold([storePath]);
  const current = parts.db.get(storePath);
  const damage = current && (await checkPath(current, realPath, options));
  return damage && treatDamage(parts, current, { ...options, damage });
}

async function treatDamage(
  parts: StoreParts,
  info: PathInfo,
  { damage, repair, remove = false, signal }: VerifyOptions & { damage: Damage },
): Promise<DamagedPath> {
  const result =
    repair === undefined
      ? ({ outcome: 'kept' } as const)
      : await repairPath(parts, info, { damage, source: repair, signal });
  const found = { ...damage, storePath: info.storePath, ...result };
  if (!remove || found.outcome === 'repaired') return found;
  return { ...found, outcome: 'removed', removed: await removeWithReferrers(parts, info.storePath) };
}

async function repairPath(
  parts: StoreParts,
  info: PathInfo,
  { damage, source, signal }: { damage: Damage; source: PathSource; signal: AbortSignal | undefined },
): Promise<Pick<DamagedPath, 'outcome' | 'error'>> {
  try {
    if (damage.kind === 'metadata') sealTree(parts.realPath(info.storePath));
    else await fetchAgain(parts, info, { source, signal });
    return { outcome: 'repaired' };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof Error)) throw error;
    return { outcome: 'kept', error };
  }
}

async function fetchAgain(
  { db, session, realPath }: StoreParts,
  info: PathInfo,
  { source, signal = new AbortController().signal }: { source: PathSource; signal: AbortSignal | undefined },
): Promise<void> {
  const { storePath } = info;
  const offered = await source.pathInfo(storePath, { signal });
  if (offered?.narHash !== info.narHash) throw notOffered(info, source.name, offered);
  const fresh = session.temporaryPath();
  const trash: string[] = [];
  try {
    await unpackPath(info, source.nar(offered, { signal, reuseChunks: true }), fresh, { signal, origin: source.name });
    // Before anything is touched: should the machine stop in between, the path is verified when it is back.
    db.transaction(() => db.setMark(storePath, freshMark()), { durable: true });
    db.transaction(() =>
      mergeTree(Buffer.from(fresh), Buffer.from(realPath(storePath)), (path) => void trash.push(session.discard(path))),
    );
  } finally {
    await deleteAll([fresh, ...trash]);
  }
}

/** Removes a path, if `isWanted` still says so when nobody else can change anything. @returns all that was removed. */
async function removeWithReferrers(parts: StoreParts, path: StorePath, isWanted = () => true): Promise<StorePath[]> {
  const { db } = parts;
  const removed = db.transaction(() => (isWanted() ? db.forget(path) : []));
  await deleteAll(db.transaction(() => removed.flatMap((path) => discardUnrecorded(parts, path))));
  return removed;
}

async function sweepUnrecorded(
  { db, session }: StoreParts,
  { remove = false, signal }: VerifyOptions,
): Promise<string[]> {
  const { names, trash } = db.transaction(() => ({
    names: session.unrecorded(),
    trash: remove ? session.takeUnrecorded() : [],
  }));
  await deleteAll(trash, { signal });
  return names;
}

function notValid(path: StorePath, storeName: string): NixError {
  return new NixError('NIX_PATH_NOT_FOUND', `Cannot verify "${path}": it is not in ${storeName}`);
}

function notOffered({ storePath, narHash }: PathInfo, sourceName: string, offered: PathInfo | undefined): NixError {
  const why =
    offered === undefined ? 'it is not there' : `there its NAR hash is ${offered.narHash}, expected ${narHash}`;
  return new NixError('NIX_PATH_NOT_FOUND', `Cannot repair "${storePath}" from "${sourceName}": ${why}`, {
    hint: 'Take another source that has it',
  });
}
