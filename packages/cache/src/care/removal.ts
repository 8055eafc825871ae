import { type StorePath, storePathHash } from '@nex-nix/nix';
import { pathNotFound } from '../service/closure.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { type Doomed, DOOMED_AT_ONCE, spare } from './doomed.ts';
import { Inventory } from './inventory.ts';
import { Journal } from './journal.ts';
import type { ListedRecord } from './path-record.ts';
import type { PinStore } from './pins.ts';
import { referrersFirst } from './retention.ts';

/** What {@link removePaths} took away. */
export interface RemoveReport {
  /** Paths that are not listed any more, what refers to others before them. */
  readonly paths: readonly StorePath[];
}

/**
 * Removes paths from what is listed. Their content goes with a later collection.
 * @param options.force - removes also what refers to them, and takes both out of the pins.
 * @throws {@link CacheError} `CACHE_PATH_NOT_FOUND`; `CACHE_PATH_IN_USE`, naming what pins a path or refers to it.
 */
export async function removePaths(
  { jetstream, pins }: { jetstream: JetStream; pins: PinStore },
  paths: readonly StorePath[],
  { force, signal }: { force: boolean; signal: AbortSignal | undefined },
): Promise<RemoveReport> {
  const inventory = await Inventory.read(jetstream, { now: Date.now(), grace: 0, signal, manifests: false });
  for (const record of inventory.records.values()) {
    if (record.state === 'claimed') await inventory.markRecord(record);
  }
  for (const path of paths) requireListed(inventory, path);
  const removed = withReferrers(inventory, paths);
  if (force) await unpin(pins, inventory, removed, signal);
  else requireUnused(inventory, paths, removed);

  const doomed = removed.map(({ key, seq }) => [key, seq] as const);
  const journal = new Journal(jetstream);
  for (let at = 0; at < doomed.length; at += DOOMED_AT_ONCE) {
    const page: Doomed = { paths: doomed.slice(at, at + DOOMED_AT_ONCE), manifests: [], chunks: [] };
    const recheck = async () => {
      await inventory.refresh();
      return spare(page, inventory.needed);
    };
    const done = await journal.delete(page, recheck, signal);
    const kept = page.paths.find(([key]) => done?.paths.every(([other]) => other !== key) ?? true);
    const record = removed.find(({ key }) => key === kept?.[0]);
    if (record !== undefined)
      throw inUse(record.info.storePath, 'somebody has pinned it, or pushed what refers to it, meanwhile');
  }
  return { paths: removed.map(({ info }) => info.storePath) };
}

function requireListed(inventory: Inventory, path: StorePath): void {
  const record = inventory.records.get(storePathHash(path));
  if (record?.state !== 'listed' || record.info.storePath !== path) throw pathNotFound(path);
}

/** The paths and all that refer to them, these first. */
function withReferrers(inventory: Inventory, paths: readonly StorePath[]): ListedRecord[] {
  const keys = new Set(paths.map(storePathHash));
  const ordered = referrersFirst(inventory.listed());
  for (const { key, info } of ordered.toReversed()) {
    if (info.references.some((reference) => keys.has(storePathHash(reference)))) keys.add(key);
  }
  return ordered.filter(({ key }) => keys.has(key));
}

function requireUnused(inventory: Inventory, paths: readonly StorePath[], removed: readonly ListedRecord[]): void {
  const wanted = new Set(paths);
  for (const { name, versions } of inventory.pins.values()) {
    const pinned = versions.find(({ storePath }) => wanted.has(storePath));
    if (pinned !== undefined) throw inUse(pinned.storePath, `it is pinned as "${name}"`);
  }
  const referrer = removed.find(({ info }) => !wanted.has(info.storePath));
  if (referrer !== undefined) {
    const { storePath, references } =
      removed.findLast(({ info }) => !wanted.has(info.storePath))?.info ?? referrer.info;
    const path = references.find((reference) => wanted.has(reference)) ?? storePath;
    throw inUse(path, `"${storePath}" refers to it`);
  }
  const claimed = paths.find((path) => inventory.needed.paths.has(storePathHash(path)));
  if (claimed !== undefined) throw inUse(claimed, 'a push that is under way refers to it');
}

async function unpin(
  pins: PinStore,
  inventory: Inventory,
  removed: readonly ListedRecord[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const gone = new Set(removed.map(({ info }) => info.storePath));
  for (const { name, versions } of inventory.pins.values()) {
    const pinned = versions.filter(({ storePath }) => gone.has(storePath));
    for (const { storePath } of pinned) await pins.forget(name, storePath, signal);
  }
}

function inUse(path: StorePath, why: string): CacheError {
  return new CacheError('CACHE_PATH_IN_USE', `Cannot remove "${path}" from the cache: ${why}`, {
    hint: 'Remove what uses it as well, or unpin it; force removes it with all that refers to it',
    storePath: path,
  });
}
