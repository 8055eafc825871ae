/**
 * Run in a network namespace of its own: a NATS server, a node, and a workload at the bridge that asks the server for its
 * greeting again and again, while the node goes and comes back. Prints what happened, as JSON.
 */
import { join } from 'node:path';
import { Feed, leftovers, openNode, startNetwork, sweep, User } from './bed.ts';
import { waitFor } from '@nex-nix/test-kit';

await using network = await startNetwork();
const stateDir = join(network.dir.path, 'node');
const options = { nc: network.nc, stateDir, key: network.key, onClose: 'leave' as const };
const ask =
  'u=${NATS_URL#nats://}; h=${u%:*}; p=${u##*:}; echo at $h; while :; do nc -w 1 $h $p </dev/null | { read -r -n 4 w; echo got $w; }; sleep 0.2; done';

await using feed = await Feed.open(network.nc, 'default');
const user = new User(network);
let node = await openNode(options);
const id = await user.start(ask, { network: 'bridge' });
await feed.line(id, 'got INFO');
const [address] = feed.texts(id);
await node[Symbol.asyncDispose]();
const before = feed.texts(id).length;
node = await openNode(options);
const again = await waitFor('its greeting from the node that came back', () =>
  feed.texts(id).slice(before).includes('got INFO'),
);
await user.client.stopWorkload(id);
await node[Symbol.asyncDispose]();
await sweep(stateDir);
process.stdout.write(`${JSON.stringify({ address, again, left: await leftovers(stateDir) })}\n`);
