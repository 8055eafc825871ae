import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { NatsConnection } from '@nats-io/nats-core';
import { NatsCache } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import {
  encodeNixBase32,
  narHashOf,
  narOf,
  type PathInfo,
  type PathSource,
  type StorePath,
  storePathFromBaseName,
} from '@nex-nix/nix';
import { startNatsServer } from '@nex-nix/test-kit';
import { AS_COMMAND } from './conditions.ts';

const SERVICE = fileURLToPath(import.meta.resolve('./cache-service-child.mjs'));

export interface BenchCache extends AsyncDisposable {
  /** The connection of the client. */
  readonly nc: NatsConnection;
  readonly client: NatsCache;
}

/**
 * A server without anything in it, the cache service in a process of its own as on a node, and a client.
 * @param options.warm - whether the service has taken something before, as one has that has run for a while: by then its code is
 *   compiled. A few paths are in the cache then.
 */
export async function startCache(configDir: string, { warm = false } = {}): Promise<BenchCache> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer());
  const child = fork(SERVICE, [server.url, configDir], AS_COMMAND);
  stack.defer(async () => {
    if (child.exitCode !== null) return;
    child.disconnect();
    await once(child, 'exit');
  });
  await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => {
      throw new Error('The cache service ended at its start');
    }),
  ]);
  const nc = await connectNats({ servers: server.url, configDir, env: {} });
  stack.defer(() => nc.close());
  const client = await NatsCache.open(nc);
  if (warm) await warmUp(client);
  const owned = stack.move();
  return { nc, client, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Pushes 32 paths of 4 MiB that nothing else is made of. */
async function warmUp(client: NatsCache): Promise<void> {
  const nars = new Map<StorePath, Buffer>();
  const infos = new Map<StorePath, PathInfo>();
  for (let i = 0; i < 32; i++) {
    const storePath = storePathFromBaseName(`${encodeNixBase32(randomBytes(20))}-warm-${i}`);
    const nar = Buffer.concat(await Array.fromAsync(narOf({ type: 'regular', contents: randomBytes(4 << 20) })));
    const narHash = narHashOf(createHash('sha256').update(nar).digest());
    nars.set(storePath, nar);
    infos.set(storePath, { storePath, narHash, narSize: nar.length, references: [], signatures: [] });
  }
  const source: PathSource = {
    name: 'memory',
    pathInfo: async (path) => infos.get(path),
    async *nar({ storePath }) {
      yield nars.get(storePath) ?? Buffer.alloc(0);
    },
  };
  await client.push(source, [...nars.keys()]);
}
