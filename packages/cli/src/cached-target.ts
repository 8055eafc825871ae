import type { NatsCache } from '@nex-nix/cache';
import { pinName, resolveCached } from './cached-path.ts';
import type { Context } from './context.ts';
import type { NixTarget } from './nix-workload.ts';

/**
 * What `cache:NAME`, a store path, or a file below one names in the cache, with its closure.
 *
 * @throws {CliError} CLI_PIN_NOT_FOUND; what the cache throws of a path that it has not
 */
export async function cachedTarget(context: Context, cache: NatsCache, text: string): Promise<NixTarget> {
  const { queryClosure, splitStorePath, storePathPackageName } = await import('@nex-nix/nix');
  const { signal } = context;
  const pin = pinName(text);
  const { storePath, subPath } =
    pin === undefined ? splitStorePath(text) : { storePath: await resolveCached(cache, { pin }, signal), subPath: '' };
  const closure = await queryClosure(cache, [storePath], { signal });
  return { storePath, subPath, name: pin ?? storePathPackageName(storePath), closure };
}
