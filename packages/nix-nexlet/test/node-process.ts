/**
 * A node in a process of its own, which the tests kill. Arguments: URL of the NATS server, state folder, the cache's
 * public key. Prints `ready`; ends in good order, leaving its workloads running, on SIGTERM.
 */
import { once } from 'node:events';
import { connect } from '@nats-io/transport-node';
import { parsePublicKey } from '@nex-nix/nix';
import { openNode } from './bed.ts';

const [, , servers = '', stateDir = '', key = ''] = process.argv;
const nc = await connect({ servers });
const node = await openNode({ nc, stateDir, key: parsePublicKey(key), onClose: 'leave' });
process.stdout.write('ready\n');
await once(process, 'SIGTERM');
await node[Symbol.asyncDispose]();
await nc.close();
