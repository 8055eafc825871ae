import { once } from 'node:events';
import { connect } from '@nats-io/transport-node';
import { NatsCache } from '@nex-nix/cache';
import { TreeSource } from './fixture.ts';
import { addRound } from './push-round.ts';

// A push in a process of its own, which can be killed: `node push-process.ts <url> <round>`. It begins when told to on stdin.
const [url = '', round = ''] = process.argv.slice(2);
const nc = await connect({ servers: url });
await using source = await TreeSource.open();
const cache = await NatsCache.open(nc);
const { top } = await addRound(source, Number(round));
process.stdout.write('ready\n');
await once(process.stdin, 'data');
// With the stored hashes in it: what the next push of it stores instead is left over.
await cache.push(source, [top.storePath], { normalise: false });
process.stdin.destroy();
await nc.close();
