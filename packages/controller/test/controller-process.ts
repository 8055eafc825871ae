/**
 * A controller in a process of its own, which the tests stop and kill. Arguments: URL of the NATS server, id. Prints
 * `leading` and `standing by` as it changes; ends in good order on SIGTERM.
 */
import { once } from 'node:events';
import { connect } from '@nats-io/transport-node';
import { runController } from '../src/index.ts';
import { QUICK } from './bed.ts';

const [, , servers = '', id = ''] = process.argv;
const nc = await connect({ servers, maxReconnectAttempts: -1 });
const controller = runController(nc, { id, timings: QUICK });
let leading: boolean | undefined;
const watch = setInterval(() => {
  if (controller.leading === leading) return;
  leading = controller.leading;
  process.stdout.write(leading ? 'leading\n' : 'standing by\n');
}, 10);
await once(process, 'SIGTERM');
clearInterval(watch);
await controller[Symbol.asyncDispose]();
await nc.close();
