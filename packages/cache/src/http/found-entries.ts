import type { StorePath } from '@nex-nix/nix';
import type { Entry } from '../manifests/entry.ts';
import type { IndexStore } from '../service/index-store.ts';

/** The entries of the paths with these hash parts that the cache has, in the same order; `note` is told of each. */
export async function* foundEntries(
  index: IndexStore,
  hashParts: readonly string[],
  { note, signal }: { note: (path: StorePath) => void; signal: AbortSignal },
): AsyncGenerator<Entry> {
  for await (const found of index.entriesByHash(hashParts, signal)) {
    if (found === undefined) continue;
    note(found.info.storePath);
    yield found.entry;
  }
}
