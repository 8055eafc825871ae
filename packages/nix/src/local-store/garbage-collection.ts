import { setImmediate } from 'node:timers/promises';
import type { SignalOptions } from '../abortable.ts';
import type { StorePath } from '../formats/store-path.ts';
import { removeTree } from '../nar/remove-tree.ts';
import { systemErrorCode } from '../nix-error.ts';
import type { PathUse } from './store-database.ts';
import type { StoreParts } from './store-parts.ts';

/** Paths removed in one transaction: others wait to write for as long as it takes. */
const BATCH = 1000;
/** Trees deleted at a time. */
const DELETIONS = 4;

/** Options of {@link LocalStore.collectGarbage}. */
export interface CollectGarbageOptions extends SignalOptions {
  /** Bound on the sum of the NAR sizes of all valid paths. 0: remove everything that is neither pinned nor held. */
  maxBytes: number;
  /** Told of each path once it is removed. */
  onRemoved?: ((path: StorePath, narSize: number) => void) | undefined;
}

/** What a garbage collection did; bytes are NAR sizes. */
export interface GarbageCollection {
  /** In order of removal: a path before what it refers to. */
  readonly removed: readonly StorePath[];
  readonly freedBytes: number;
  /** Of all paths that are valid now. */
  readonly keptBytes: number;
  /** Of those of them that are pinned or held, or needed by one that is. */
  readonly protectedBytes: number;
  /** False when pins and holds keep more than `maxBytes`. */
  readonly isWithinBound: boolean;
}

/**
 * Removes least recently used closures until at most `maxBytes` are left.
 *
 * Records go first, while nobody else can pin, hold or import; then what has no record (by now: it may have come anew) is moved out
 * of the store folder; then it is deleted. A crash in between leaves contents without a record, which nobody sees and the next open sweeps.
 */
export async function collectGarbage(
  parts: StoreParts,
  { maxBytes, signal, onRemoved }: CollectGarbageOptions,
): Promise<GarbageCollection> {
  const { db, session } = parts;
  const removed: StorePath[] = [];
  let freedBytes = 0;
  for (;;) {
    signal?.throwIfAborted();
    const { batch, left, keptBytes, protectedBytes } = db.transaction(() => {
      const left = session.takeFromTheDead();
      const { victims, ...bytes } = planCollection(
        { uses: db.uses(), references: db.allReferences(), roots: db.roots() },
        maxBytes,
      );
      const batch = victims.slice(0, BATCH);
      for (const { path } of batch) db.forget(path);
      return { batch, left, ...bytes };
    });
    await deleteAll(left, { signal });
    if (batch.length === 0) {
      return { removed, freedBytes, keptBytes, protectedBytes, isWithinBound: keptBytes <= maxBytes };
    }
    await setImmediate();
    const trash = db.transaction(() => batch.flatMap(({ path }) => discardUnrecorded(parts, path)));
    await deleteAll(trash, { signal });
    for (const { path, narSize } of batch) {
      removed.push(path);
      freedBytes += narSize;
      onRemoved?.(path, narSize);
    }
  }
}

/** Moves the content of a path that is not recorded out of the store folder, if there is any; inside a transaction. @returns where it is then. */
export function discardUnrecorded({ db, session, realPath }: StoreParts, path: StorePath): string[] {
  if (db.has(path)) return [];
  try {
    return [session.discard(realPath(path))];
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Deletes what was moved into the folder of the session. What it does not come to when it is stopped is removed with the session. */
export async function deleteAll(trees: readonly string[], { signal }: SignalOptions = {}): Promise<void> {
  const queue = [...trees];
  const work = async () => {
    for (let tree = queue.pop(); tree !== undefined; tree = queue.pop()) {
      signal?.throwIfAborted();
      await removeTree(tree);
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: DELETIONS }, work));
  const failure = ends.find((end) => end.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}

export interface CollectionPlan {
  /** What to remove, in this order: a path after everything that refers to it. */
  readonly victims: readonly PathUse[];
  /** Bytes now, victims included. */
  readonly keptBytes: number;
  /** Bytes of what is reachable from the roots. */
  readonly protectedBytes: number;
}

export interface StoreGraph {
  readonly uses: readonly PathUse[];
  /** Without cycles. */
  readonly references: readonly { readonly referrer: StorePath; readonly reference: StorePath }[];
  /** They need not be in `uses`. */
  readonly roots: readonly StorePath[];
}

/** Chooses what to remove so that at most `maxBytes` are left. A path counts as used whenever something that refers to it was. */
export function planCollection({ uses, references, roots }: StoreGraph, maxBytes: number): CollectionPlan {
  const referencesOf = new Map<StorePath, StorePath[]>(uses.map(({ path }) => [path, []]));
  for (const { referrer, reference } of references) referencesOf.get(referrer)?.push(reference);

  const live = new Set(roots);
  // Grows while it is walked.
  for (const path of live) for (const reference of referencesOf.get(path) ?? []) live.add(reference);
  const dead = new Map(uses.filter(({ path }) => !live.has(path)).map((use) => [use.path, use]));

  const keptBytes = sum(uses);
  const candidates = leastRecentlyUsedFirst(dead, referencesOf);
  const victims: PathUse[] = [];
  let left = keptBytes;
  for (const victim of candidates) {
    if (left <= maxBytes) break;
    victims.push(victim);
    left -= victim.narSize;
  }
  return { victims, keptBytes, protectedBytes: keptBytes - sum(candidates) };
}

/** Referrers before what they refer to, which is never used earlier than they are. */
function leastRecentlyUsedFirst(
  dead: ReadonlyMap<StorePath, PathUse>,
  referencesOf: ReadonlyMap<StorePath, readonly StorePath[]>,
): PathUse[] {
  const referrers = new Map<StorePath, number>();
  const lastUsed = new Map<StorePath, number>();
  const deadReferences = (path: StorePath) => (referencesOf.get(path) ?? []).filter((reference) => dead.has(reference));
  for (const { path, lastUsed: time } of dead.values()) {
    lastUsed.set(path, time);
    for (const reference of deadReferences(path)) referrers.set(reference, (referrers.get(reference) ?? 0) + 1);
  }
  const sorted = [...dead.values()].filter(({ path }) => !referrers.has(path));
  const useOf = (path: StorePath) => lastUsed.get(path) ?? 0;
  // Grows while it is walked.
  for (const { path } of sorted) {
    for (const reference of deadReferences(path)) {
      lastUsed.set(reference, Math.max(useOf(reference), useOf(path)));
      const others = (referrers.get(reference) ?? 1) - 1;
      referrers.set(reference, others);
      const use = dead.get(reference);
      if (others === 0 && use !== undefined) sorted.push(use);
    }
  }
  // Stable: among equal times the order above stays.
  return sorted.sort((a, b) => useOf(a.path) - useOf(b.path));
}

function sum(uses: readonly PathUse[]): number {
  return uses.reduce((bytes, { narSize }) => bytes + narSize, 0);
}
