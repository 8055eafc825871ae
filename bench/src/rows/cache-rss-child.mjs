// Plain JavaScript, which takes the built package: what turns TypeScript into JavaScript at run time takes 30 MiB.
//   serve URL      the cache service, until a message comes from its parent
//   push URL       pushes a path of 2 GiB
//   pull URL DIR   pulls it into the store in DIR
// Prints the most MiB that this process had.
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { copyClosure, generateSecretKey, LocalStore, narHashOf, narOf, storePathFromBaseName } from '@nex-nix/nix';

const SIZE = 2 * 1024 ** 3;
const PIECE = 1024 * 1024;
const PATH = storePathFromBaseName('00000000000000000000000000000001-large');

async function* contents() {
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(PIECE);
  for (let at = 0; at < SIZE; at += PIECE) yield noise.update(zeros);
}

function nar() {
  return narOf({ type: 'regular', contents: contents(), size: SIZE });
}

async function pathInfo() {
  const hash = createHash('sha256');
  let narSize = 0;
  for await (const bytes of nar()) {
    hash.update(bytes);
    narSize += bytes.length;
  }
  return { storePath: PATH, narHash: narHashOf(hash.digest()), narSize, references: [], signatures: [] };
}

const [command, url = '', dir = ''] = process.argv.slice(2);
const nc = await connectNats({ servers: url, configDir: '/nonexistent', env: {} });
if (command === 'serve') {
  const service = await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') });
  process.send?.('ready');
  await once(process, 'message');
  await service[Symbol.asyncDispose]();
} else {
  const cache = await NatsCache.open(nc);
  if (command === 'push') {
    const info = await pathInfo();
    await cache.push({ name: 'memory', pathInfo: async () => info, nar }, [PATH]);
  } else {
    const store = await LocalStore.open({ dir });
    await copyClosure(cache, store, [PATH], { trustedKeys: [cache.publicKey] });
    await store[Symbol.asyncDispose]();
  }
}
await nc.close();
const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
process.stdout.write(`${Number(kibibytes) / 1024}\n`);
if (process.connected) process.disconnect();
