import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdCompressSync } from 'node:zlib';
import { NatsCache } from '@nex-nix/cache';
import { encodeNixBase32, narOf, NixStore } from '@nex-nix/nix';
import { startNatsServer, tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { httpRss } from './cache-http-rss.ts';
import { type Side, startSide, TOKEN } from './cache-http-sides.ts';
import { startCache } from './cache-process.ts';
import { inTurn } from './conditions.ts';
import { makeClosure, milliseconds, type NixClosure } from './nix-closure.ts';

const RUNS = 5;
const run = promisify(execFile);

const pull: Row = {
  id: 'cache.http.pull',
  what: 'nix copy --from our HTTP door of a closure of 100 MiB that was pushed natively (store hashes blanked), zstd',
  unit: 'ms',
  peer: 'nix copy --from a plain file server, zstd',
  wanted: 1.5,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const closure = await makeClosure(dir.path);
    const files = join(dir.path, 'files');
    await nix(closure, ['--store', closure.store, 'copy', '--to', `file://${files}?compression=zstd`]);
    await using plain = await startSide('files', files, dir.path);
    await using nats = await startNatsServer();
    await using door = await startSide('cache', nats.url, dir.path);
    const client = await NatsCache.open(await nats.connect());
    await client.push(new NixStore(closure), [closure.path]);
    const measured = await inTurn({
      runs: RUNS,
      theirs: (folder) => milliseconds(() => pullFrom(plain.url, { closure, folder })),
      ours: (folder) => milliseconds(() => pullFrom(door.url, { closure, folder })),
    });
    const note = `  the door and the cache service in one process: ${await door.memory()} at most`;
    return { ...measured, notes: [note, ...measured.notes] };
  },
};

const push: Row = {
  id: 'cache.http.push',
  what: 'nix copy --to our HTTP door of a closure of 100 MiB that the cache has nothing of, zstd; door and service have run before',
  unit: 'ms',
  peer: 'nix copy --to a plain file server, zstd',
  wanted: 2,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const closure = await makeClosure(dir.path);
    await using plain = await startSide('files', join(dir.path, 'files'), dir.path);
    const values: number[] = [];
    const peerValues: number[] = [];
    let memory = '';
    for (let i = 0; i < RUNS; i++) {
      peerValues.push(await milliseconds(() => copyTo(`${plain.url}/${i}`, closure)));
      await using cache = await startCache(dir.path, { warm: true });
      await using door = await startSide('door', `nats://${cache.nc.getServer()}`, dir.path);
      await warmUp(door);
      values.push(await milliseconds(() => copyTo(door.url, closure)));
      memory = await door.memory();
    }
    return { values, peerValues, notes: [`  the process of the door: ${memory} at most`] };
  },
};

/** Uploads eight NARs of 4 MiB that nothing else is made of. */
async function warmUp({ url }: Side): Promise<void> {
  for (let i = 0; i < 8; i++) {
    const tree = { type: 'regular', contents: randomBytes(4 << 20) } as const;
    const file = zstdCompressSync(Buffer.concat(await Array.fromAsync(narOf(tree))));
    const name = encodeNixBase32(createHash('sha256').update(file).digest());
    const { status } = await fetch(`${url}/nar/${name}.nar.zst`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: file,
    });
    if (status !== 201) throw new Error(`The door does not take a NAR: ${status}`);
  }
}

async function copyTo(url: string, closure: NixClosure, compression = 'zstd'): Promise<void> {
  const to = `${url.replace('//', `//nex:${TOKEN}@`)}?compression=${compression}`;
  await nix(closure, ['--store', closure.store, 'copy', '--to', to]);
}

/** Into an empty Nix store, by a client that remembers nothing. */
async function pullFrom(url: string, { closure, folder }: { closure: NixClosure; folder: string }): Promise<void> {
  const store = `local?root=${join(folder, 'store')}`;
  const cache = join(folder, 'cache');
  await mkdir(cache);
  const env = { ...closure.env, XDG_CACHE_HOME: cache };
  await nix({ ...closure, env }, ['--store', store, 'copy', '--no-check-sigs', '--from', url, '--to', store]);
}

async function nix({ env, path }: NixClosure, args: readonly string[]): Promise<void> {
  await run('nix', [...args, path], { env });
}

export const cacheHttpRows: readonly Row[] = [push, pull, httpRss];
