// Plain JavaScript, which takes the built package: what turns TypeScript into JavaScript at run time takes 30 MiB.
//   serve URL      the cache service, until a message comes from its parent
//   push URL FILE  pushes a path that is this file
//   pull URL DIR   pulls it into the store in DIR
// Prints the most MiB that this process had.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { copyClosure, dumpNar, generateSecretKey, LocalStore, narHashOf, storePathFromBaseName } from '@nex-nix/nix';

const PATH = storePathFromBaseName('00000000000000000000000000000001-large');

async function pathInfoOf(file) {
  const hash = createHash('sha256');
  let narSize = 0;
  for await (const bytes of dumpNar(file, { reuseChunks: true })) {
    hash.update(bytes);
    narSize += bytes.length;
  }
  return { storePath: PATH, narHash: narHashOf(hash.digest()), narSize, references: [], signatures: [] };
}

const [command, url = '', place = ''] = process.argv.slice(2);
const nc = await connectNats({ servers: url, configDir: '/nonexistent', env: {} });
if (command === 'serve') {
  const service = await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') });
  process.send?.('ready');
  await once(process, 'message');
  await service[Symbol.asyncDispose]();
} else {
  const cache = await NatsCache.open(nc);
  if (command === 'push') {
    const info = await pathInfoOf(place);
    const nar = (_info, options) => dumpNar(place, options);
    await cache.push({ name: place, pathInfo: async () => info, nar }, [PATH]);
  } else {
    const store = await LocalStore.open({ dir: place });
    await copyClosure(cache, store, [PATH], { trustedKeys: [cache.publicKey] });
    await store[Symbol.asyncDispose]();
  }
}
await nc.close();
const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
process.stdout.write(`${Number(kibibytes) / 1024}\n`);
if (process.connected) process.disconnect();
