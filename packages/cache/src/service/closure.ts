import type { PathInfo, StorePath } from '@nex-nix/nix';
import type { Entry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { IndexStore } from './index-store.ts';

/** The entries of the given paths that the cache has, in the same order. */
export async function* knownEntries(
  index: IndexStore,
  paths: readonly StorePath[],
  signal?: AbortSignal,
): AsyncGenerator<Entry> {
  for await (const { found } of index.entries(paths, signal)) if (found !== undefined) yield found.entry;
}

/**
 * The entries of everything that `roots` refer to, themselves included, each once, roots first.
 * @throws {@link CacheError} `CACHE_PATH_NOT_FOUND`, naming the path and what refers to it.
 */
export async function* closureEntries(
  index: IndexStore,
  roots: readonly StorePath[],
  signal?: AbortSignal,
): AsyncGenerator<Entry> {
  /** Path to what refers to it. */
  const seen = new Map<StorePath, StorePath | undefined>(roots.map((root) => [root, undefined]));
  let level = [...seen.keys()];
  while (level.length > 0) {
    const next: StorePath[] = [];
    for await (const { path, found } of index.entries(level, signal)) {
      if (found === undefined) throw pathNotFound(path, seen.get(path));
      for (const reference of newReferences(found.info, seen)) next.push(reference);
      yield found.entry;
    }
    level = next;
  }
}

function newReferences(info: PathInfo, seen: Map<StorePath, StorePath | undefined>): StorePath[] {
  const fresh = info.references.filter((reference) => !seen.has(reference));
  for (const reference of fresh) seen.set(reference, info.storePath);
  return fresh;
}

/** That the cache does not have a path, which `referrer` refers to. */
export function pathNotFound(path: StorePath, referrer?: StorePath): CacheError {
  const by = referrer === undefined ? '' : `, which "${referrer}" refers to`;
  return new CacheError('CACHE_PATH_NOT_FOUND', `Cannot find "${path}"${by}: it is not in the NATS cache`, {
    hint: 'Push it first, from a machine whose Nix store has it',
    storePath: path,
  });
}
