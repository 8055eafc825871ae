import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { copyClosure, LocalStore, NixStore } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { delta, deltaTime, rebuild } from './cache-bytes.ts';
import { deltaPull } from './cache-delta-pull.ts';
import { startCache } from './cache-process.ts';
import { rss } from './cache-rss.ts';
import { inTurn } from './conditions.ts';
import { makeClosure, milliseconds, type NixClosure } from './nix-closure.ts';

const RUNS = 5;
const run = promisify(execFile);

const push: Row = {
  id: 'cache.push',
  what: 'a closure of 100 MiB from a Nix store into a cache in NATS that has nothing of it, verified by its service, which has run before',
  unit: 'ms',
  peer: 'nix copy --to http://…?compression=zstd, a plain file server',
  wanted: 1,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const closure = await makeClosure(dir.path);
    const values: number[] = [];
    const peerValues: number[] = [];
    let sentBytes = 0;
    for (let i = 0; i < RUNS; i++) {
      await using server = await fileServer(join(dir.path, `files-${i}`));
      const to = `${server.url}?compression=zstd`;
      peerValues.push(await milliseconds(() => nix(closure, ['--store', closure.store, 'copy', '--to', to])));
      await using cache = await startCache(dir.path, { warm: true });
      values.push(
        await milliseconds(async () => {
          ({ sentBytes } = await cache.client.push(nixStore(closure), [closure.path]));
        }),
      );
    }
    return { values, peerValues, notes: [`  ${(sentBytes / 2 ** 20).toFixed(1)} MiB sent`] };
  },
};

const pull: Row = {
  id: 'cache.pull',
  what: 'the same closure out of NATS into an empty store of our own',
  unit: 'ms',
  peer: 'nix copy --from the plain file server, zstd, into an empty Nix store',
  wanted: 1.3,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const closure = await makeClosure(dir.path);
    await using server = await fileServer(join(dir.path, 'files'));
    await nix(closure, ['--store', closure.store, 'copy', '--to', `${server.url}?compression=zstd`]);
    await using cache = await startCache(dir.path);
    await cache.client.push(nixStore(closure), [closure.path]);
    return await inTurn({
      runs: RUNS,
      theirs: (folder) => {
        const to = `local?root=${join(folder, 'store')}`;
        const args = ['--store', to, 'copy', '--no-check-sigs', '--from', server.url, '--to', to];
        return milliseconds(() => nix(closure, args));
      },
      ours: (folder) =>
        milliseconds(async () => {
          await using store = await LocalStore.open({ dir: join(folder, 'store') });
          await copyClosure(cache.client, store, [closure.path], { trustedKeys: [cache.client.publicKey] });
        }),
    });
  },
};

function nixStore({ root, env }: NixClosure): NixStore {
  return new NixStore({ root, env });
}

async function nix({ env, path }: NixClosure, args: readonly string[]): Promise<void> {
  await run('nix', [...args, path], { env });
}

interface FileServer extends AsyncDisposable {
  readonly url: string;
}

/** What a static web server with PUT does. */
async function fileServer(folder: string): Promise<FileServer> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const file = join(folder, new URL(request.url ?? '/', 'http://localhost').pathname);
    try {
      if (request.method === 'PUT') {
        await mkdir(dirname(file), { recursive: true });
        await pipeline(request, createWriteStream(file));
        response.writeHead(201).end();
      } else {
        const content = createReadStream(file, { highWaterMark: 256 * 1024 });
        await once(content, 'open');
        await pipeline(content, response.writeHead(200));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') response.writeHead(404).end();
      else response.destroy();
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

export const cacheRows: readonly Row[] = [push, pull, delta, deltaTime, deltaPull, rebuild, rss];
