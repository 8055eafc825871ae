// A running service that compresses what it is sent, and answers on another subject with nothing; the peer of functions.
// Arguments: URL of the NATS server, subject of the one, subject of the other.
import { once } from 'node:events';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { connectNats } from '@nex-nix/nats-context';

const [url = '', compressing = '', empty = ''] = process.argv.slice(2);
const compress = promisify(gzip);
await using nc = await connectNats({ servers: url });
nc.subscribe(compressing, {
  callback: (_, message) => void compress(message.data).then((data) => message.respond(data)),
});
nc.subscribe(empty, { callback: (_, message) => void message.respond() });
await nc.flush();
process.send?.('ready');
await once(process, 'message');
process.disconnect();
