// Plain JavaScript, which takes the built package: what turns TypeScript into JavaScript at run time takes 30 MiB.
//   URL  the HTTP door of the cache at this NATS server, until a message comes from its parent; then prints the most MiB that it had
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { CacheHttpServer } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';

const nc = await connectNats({ servers: process.argv[2], configDir: '/nonexistent', env: {} });
const door = await CacheHttpServer.start(nc, { token: 'bench' });
process.send?.(door.url);
await once(process, 'message');
await door[Symbol.asyncDispose]();
await nc.close();
const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
process.stdout.write(`${Number(kibibytes) / 1024}\n`);
if (process.connected) process.disconnect();
