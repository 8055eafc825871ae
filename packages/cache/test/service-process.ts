import { connect } from '@nats-io/transport-node';
import { CacheService } from '@nex-nix/cache';
import { parseSecretKey } from '@nex-nix/nix';

// A cache service in a process of its own, which can be killed: `node service-process.ts <url> <secret key>`.
const [url = '', key = ''] = process.argv.slice(2);
await CacheService.start(await connect({ servers: url }), { secretKey: parseSecretKey(key) });
process.stdout.write('ready\n');
