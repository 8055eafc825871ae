// Plain JavaScript, which takes the built package, as a node does: what turns TypeScript into JavaScript at run time goes on
// for seconds in the background.
//   URL DIR  the cache service at this NATS server, with its configuration in DIR, until the parent goes away
import { once } from 'node:events';
import { CacheService } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { generateSecretKey } from '@nex-nix/nix';

const [servers, configDir] = process.argv.slice(2);
const nc = await connectNats({ servers, configDir, env: {} });
const service = await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') });
process.send?.('ready');
await once(process, 'disconnect');
await service[Symbol.asyncDispose]();
await nc.close();
