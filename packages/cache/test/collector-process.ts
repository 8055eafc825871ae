import { once } from 'node:events';
import { connect } from '@nats-io/transport-node';
import { collectGarbage } from '../src/care/collector.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';

// A collection in a process of its own, which kills itself: `node collector-process.ts <url> <pattern> <count> <before|after>`.
// It dies when it sends the count-th message whose "subject body" matches the pattern, before that or once it was answered.
const [url = '', pattern = '', count = '1', moment = 'before'] = process.argv.slice(2);
const nc = await connect({ servers: url });
const fatal = new RegExp(pattern);
let left = Number(count);

function isFatal(subject: string, body: unknown): boolean {
  const text = body instanceof Uint8Array ? Buffer.from(body).toString() : typeof body === 'string' ? body : '';
  return fatal.test(`${subject} ${text}`) && --left === 0;
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive');
}

const request = nc.request.bind(nc);
nc.request = async (subject, body, options) => {
  const dies = isFatal(subject, body);
  if (dies && moment === 'before') die();
  const answer = await request(subject, body, options);
  if (dies) die();
  return answer;
};
const publish = nc.publish.bind(nc);
nc.publish = (subject, body, options) => {
  const dies = isFatal(subject, body);
  if (dies && moment === 'before') die();
  publish(subject, body, options);
  if (dies) void nc.flush().then(die);
};

const jetstream = await openJetStream(nc);
process.stdout.write('ready\n');
await once(process.stdin, 'data');
await collectGarbage(jetstream, { olderThan: 0, grace: 0 }, undefined);
process.exit(0);
