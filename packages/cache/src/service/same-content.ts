import type { PathInfo } from '@nex-nix/nix';
import { CacheError } from '../errors.ts';

/**
 * What is listed is never replaced by other content.
 * @param action - what cannot be done otherwise: `add`, `sign`.
 * @throws {@link CacheError} `CACHE_PATH_CONFLICT` when `stored` is not what `info` says of the same path
 */
export function requireSameContent(stored: PathInfo, info: PathInfo, action: string): void {
  const same =
    stored.narHash === info.narHash &&
    stored.narSize === info.narSize &&
    stored.references.join(' ') === info.references.join(' ');
  if (same) return;
  const { storePath } = info;
  throw new CacheError('CACHE_PATH_CONFLICT', `Cannot ${action} "${storePath}": the cache has it with other content`, {
    hint: 'The build is not reproducible; use the content of the cache, or remove the path from it first',
    storePath,
  });
}
