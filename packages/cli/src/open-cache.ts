import type { NatsCache } from '@nex-nix/cache';
import type { NatsConnection } from '@nats-io/nats-core';
import type { Context } from './context.ts';

/** The cache of the account that the global options lead to. */
export async function openCache(context: Context, connection?: NatsConnection): Promise<NatsCache> {
  const nc = connection ?? (await context.connect());
  const { NatsCache } = await import('@nex-nix/cache');
  return NatsCache.open(nc, { signal: context.signal });
}
