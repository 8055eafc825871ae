import type { PublicKey } from '@nex-nix/nix';
import { pathNotFound } from '../service/closure.ts';
import { cacheNarInfo, readNarInfo } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { IndexStore } from '../service/index-store.ts';
import type { CommitOutcome } from '../protocol/protocol.ts';
import { requireSameContent } from '../service/same-content.ts';

/** More than anybody has keys; each costs every reader of the path about 100 bytes. */
const MAX_SIGNATURES = 64;

/**
 * Adds the signatures of a narinfo to those that a listed path has. Everything else in it must be what the cache has, the
 * location of the NAR aside. The signature of the cache itself is not to be replaced.
 *
 * @returns `present` when the path has them all.
 * @throws {@link CacheError} `CACHE_PATH_NOT_FOUND`, `CACHE_PATH_CONFLICT`, `CACHE_SIGNATURES_LIMIT`
 */
export async function addSignatures(
  { index, publicKey }: { readonly index: IndexStore; readonly publicKey: PublicKey },
  text: string,
  signal: AbortSignal,
): Promise<CommitOutcome> {
  const sent = readNarInfo(text, 'sign');
  const { storePath } = sent;
  const offered = sent.signatures.filter((signature) => !signature.startsWith(`${publicKey.name}:`));
  for (;;) {
    const stored = await index.narInfo(storePath, signal);
    if (stored === undefined) throw pathNotFound(storePath);
    const { info, revision } = stored;
    requireSameContent(info, sent, 'sign');
    const signatures = [...new Set([...info.signatures, ...offered])];
    if (signatures.length === info.signatures.length) return { outcome: 'present' };
    if (signatures.length > MAX_SIGNATURES) {
      throw new CacheError(
        'CACHE_SIGNATURES_LIMIT',
        `Cannot add signatures to "${storePath}": it would have ${signatures.length}, at most ${MAX_SIGNATURES} are kept`,
        { storePath },
      );
    }
    const merged = cacheNarInfo({ ...info, signatures });
    if (await index.storeNarInfo(storePath, merged, { revision, signal })) return { outcome: 'added' };
  }
}
