import { DatabaseSync } from 'node:sqlite';
import { LocalChunks, NatsCache } from '@nex-nix/cache';
import { copyClosure, LocalStore, parsePublicKey, parseStorePath } from '@nex-nix/nix';
import { connect } from '@nats-io/transport-node';

// A pull in a process of its own, which says how many bytes it did not fetch: `node pull-process.ts <url> <store> <key> <path>…`.
const [url = '', dir = '', key = '', ...paths] = process.argv.slice(2);
const killAt = process.env['NEX_KILL_AT'];
if (killAt !== undefined) killBefore(Number(killAt));

const nc = await connect({ servers: url });
const cache = await NatsCache.open(nc);
{
  await using store = await LocalStore.open({ dir });
  using local = new LocalChunks(store);
  await copyClosure(cache.reusing(local), store, paths.map(parseStorePath), { trustedKeys: [parsePublicKey(key)] });
  process.send?.(local.reusedBytes);
}
await nc.close();
process.disconnect();

/** Kills this process before the index of chunks is given a command for the `n`-th time, counted from 0. */
function killBefore(n: number): void {
  let count = 0;
  // oxlint-disable-next-line typescript/unbound-method -- It is called with what it belongs to.
  const { exec } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function (this: DatabaseSync, sql) {
    if (this.location()?.endsWith('chunks.sqlite') === true && count++ === n) process.kill(process.pid, 'SIGKILL');
    exec.call(this, sql);
  };
}
