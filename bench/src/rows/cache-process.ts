import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { generateSecretKey } from '@nex-nix/nix';
import { startNatsServer } from '@nex-nix/test-kit';

export interface BenchCache extends AsyncDisposable {
  /** The connection of the client. */
  readonly nc: NatsConnection;
  readonly client: NatsCache;
}

/** A server without anything in it, the cache service in a process of its own as on a node, and a client. */
export async function startCache(configDir: string): Promise<BenchCache> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer());
  const child = fork(import.meta.filename, [server.url, configDir], { execArgv: ['--conditions=nexsrc'] });
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
  const nc = await server.connect();
  const client = await NatsCache.open(nc);
  const owned = stack.move();
  return { nc, client, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The cache service until the parent goes away. */
async function serve(servers: string, configDir: string): Promise<void> {
  const nc = await connectNats({ servers, configDir, env: {} });
  const service = await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') });
  process.send?.('ready');
  await once(process, 'disconnect');
  await service[Symbol.asyncDispose]();
  await nc.close();
}

// Started by itself, this file is the service that is measured.
const [url, configDir] = process.argv.slice(2);
if (import.meta.main && url !== undefined && configDir !== undefined) await serve(url, configDir);
