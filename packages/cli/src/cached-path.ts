import type { NatsCache } from '@nex-nix/cache';
import type { StorePath } from '@nex-nix/nix';
import { CliError } from './cli-error.ts';

const PREFIX = 'cache:';

/** What a user names in the cache: a store path, or what is pinned under a name. */
export type CachedPath = { readonly storePath: StorePath } | { readonly pin: string };

/** The name in `cache:NAME`; undefined for anything else. */
export function pinName(text: string): string | undefined {
  return text.startsWith(PREFIX) ? text.slice(PREFIX.length) : undefined;
}

/** Reads `/nix/store/…` or `cache:NAME`. */
export async function parseCached(text: string): Promise<CachedPath> {
  const pin = pinName(text);
  if (pin !== undefined) return { pin };
  const { parseStorePath } = await import('@nex-nix/nix');
  return { storePath: parseStorePath(text) };
}

/** The store path that is meant; the cache knows what is pinned. */
export async function resolveCached(cache: NatsCache, path: CachedPath, signal: AbortSignal): Promise<StorePath> {
  if ('storePath' in path) return path.storePath;
  const { pin } = path;
  const storePath = await cache.resolvePin(pin, { signal });
  if (storePath !== undefined) return storePath;
  throw new CliError(
    'CLI_PIN_NOT_FOUND',
    `Cannot find "${PREFIX}${pin}": nothing is pinned in the cache under the name "${pin}"`,
    { hint: 'nex cache pins' },
  );
}
