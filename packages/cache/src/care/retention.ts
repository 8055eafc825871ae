import { storePathHash } from '@nex-nix/nix';
import type { ChunkId } from '../chunks/chunk-id.ts';
import { narHashDigits } from '../jetstream/layout.ts';
import type { StoredChunk } from './chunk-list.ts';
import type { Inventory } from './inventory.ts';
import type { ListedRecord } from './path-record.ts';

/** What a path may be removed for. */
export interface Limits {
  /** Paths last used before this time, in ms since 1970. */
  readonly before: number | undefined;
  /** Bytes that the chunks of all listed paths may take; who was not used longest goes first. */
  readonly maxBytes: number | undefined;
}

/** What retention lets go, and what it cannot. */
interface Outdated {
  readonly paths: ListedRecord[];
  /** Bytes by which the chunks of what must stay exceed {@link Limits.maxBytes}. */
  readonly excessBytes: number;
}

/**
 * The listed paths that are to go, in an order in which none is listed without what it refers to: what refers to others
 * before them. What the inventory has marked stays.
 */
export async function outdatedPaths(
  inventory: Inventory,
  state: {
    readonly used: ReadonlyMap<string, { readonly time: number }>;
    readonly chunks: ReadonlyMap<ChunkId, StoredChunk>;
  },
  { before, maxBytes }: Limits,
): Promise<Outdated> {
  if (before === undefined && maxBytes === undefined) return { paths: [], excessBytes: 0 };
  const ordered = referrersFirst(inventory.listed());
  const lastUsed = usedLast(ordered, state.used);
  const rank = new Map(ordered.map(({ key }, i) => [key, i]));
  const time = ({ key }: ListedRecord) => lastUsed.get(key) ?? 0;
  // A path was used at least as late as what refers to it, so this keeps referrers first.
  const candidates = ordered
    .filter(({ key }) => !inventory.needed.paths.has(key))
    .sort((a, b) => time(a) - time(b) || (rank.get(a.key) ?? 0) - (rank.get(b.key) ?? 0));
  const expired = before === undefined ? 0 : candidates.filter((record) => time(record) < before).length;
  if (maxBytes === undefined) return { paths: candidates.slice(0, expired), excessBytes: 0 };

  const size = await SharedSize.of(inventory, ordered, state.chunks);
  let count = 0;
  for (const record of candidates) {
    if (count >= expired && size.bytes <= maxBytes) break;
    await size.remove(record);
    count++;
  }
  return { paths: candidates.slice(0, count), excessBytes: Math.max(0, size.bytes - maxBytes) };
}

/** Bytes of the chunks that at least one of the paths has. */
class SharedSize {
  bytes = 0;
  readonly #inventory: Inventory;
  readonly #chunks: ReadonlyMap<ChunkId, StoredChunk>;
  /** Paths by NAR, and NARs by chunk. */
  readonly #paths = new Map<string, number>();
  readonly #nars = new Map<ChunkId, number>();

  static async of(
    inventory: Inventory,
    paths: readonly ListedRecord[],
    chunks: ReadonlyMap<ChunkId, StoredChunk>,
  ): Promise<SharedSize> {
    const size = new SharedSize(inventory, chunks);
    for (const path of paths) await size.#add(path);
    return size;
  }

  private constructor(inventory: Inventory, chunks: ReadonlyMap<ChunkId, StoredChunk>) {
    this.#inventory = inventory;
    this.#chunks = chunks;
  }

  async #add({ info }: ListedRecord): Promise<void> {
    const nar = narHashDigits(info.narHash);
    if (increase(this.#paths, nar) > 1) return;
    for (const id of new Set(await this.#inventory.chunksOf(nar))) {
      if (increase(this.#nars, id) === 1) this.bytes += this.#chunks.get(id)?.size ?? 0;
    }
  }

  async remove({ info }: ListedRecord): Promise<void> {
    const nar = narHashDigits(info.narHash);
    if (increase(this.#paths, nar, -1) > 0) return;
    for (const id of new Set(await this.#inventory.chunksOf(nar))) {
      if (increase(this.#nars, id, -1) === 0) this.bytes -= this.#chunks.get(id)?.size ?? 0;
    }
  }
}

function increase<K>(counts: Map<K, number>, key: K, by = 1): number {
  const count = (counts.get(key) ?? 0) + by;
  counts.set(key, count);
  return count;
}

/** The paths, each before those that it refers to. */
export function referrersFirst(paths: readonly ListedRecord[]): ListedRecord[] {
  const byKey = new Map(paths.map((path) => [path.key, path]));
  const done = new Set<string>();
  const referencesFirst: ListedRecord[] = [];
  for (const root of paths) {
    // A stack of its own: closures can be deeper than the one of the language.
    const stack = [{ path: root, left: references(root) }];
    if (done.has(root.key)) continue;
    done.add(root.key);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const key = top.left.pop();
      const next = key === undefined ? undefined : byKey.get(key);
      if (key === undefined) {
        referencesFirst.push(top.path);
        stack.pop();
      } else if (next !== undefined && !done.has(key)) {
        done.add(key);
        stack.push({ path: next, left: references(next) });
      }
    }
  }
  return referencesFirst.reverse();
}

function references({ info }: ListedRecord): string[] {
  return info.references.map(storePathHash);
}

/** When each path was used last: pushed, asked for, or one of these was something that refers to it. */
function usedLast(
  ordered: readonly ListedRecord[],
  used: ReadonlyMap<string, { readonly time: number }>,
): Map<string, number> {
  const times = new Map<string, number>();
  for (const path of ordered) {
    const time = Math.max(path.time, used.get(path.key)?.time ?? 0, times.get(path.key) ?? 0);
    times.set(path.key, time);
    for (const key of references(path)) times.set(key, Math.max(time, times.get(key) ?? 0));
  }
  return times;
}
