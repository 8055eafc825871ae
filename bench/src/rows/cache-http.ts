import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { CacheHttpServer, CacheService, NatsCache } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { generateSecretKey, NixStore } from '@nex-nix/nix';
import { startNatsServer, tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { makeClosure, milliseconds, type NixClosure } from './nix-closure.ts';

const RUNS = 5;
const MIB = 2 ** 20;
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
    await using door = await startSide('door', nats.url, dir.path);
    const client = await NatsCache.open(await nats.connect());
    await client.push(new NixStore(closure), [closure.path]);
    const values: number[] = [];
    const peerValues: number[] = [];
    // The first of each side warms it up, and is not counted.
    for (let i = 0; i <= RUNS; i++) {
      for (const [url, into] of [
        [plain.url, peerValues],
        [door.url, values],
      ] as const) {
        await using out = await tempDir('nex-bench-');
        const ms = await milliseconds(() => pullFrom(url, { closure, folder: out.path }));
        if (i > 0) into.push(ms);
      }
    }
    return {
      values,
      peerValues,
      notes: [`  the door and the cache service in one process: ${await door.memory()} at most`],
    };
  },
};

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

interface Side extends AsyncDisposable {
  readonly url: string;
  /** The most memory that the process had, as text. */
  memory(): Promise<string>;
}

/** One of the two servers, in a process of its own. */
async function startSide(kind: 'files' | 'door', what: string, configDir: string): Promise<Side> {
  const child = fork(import.meta.filename, [kind, what, configDir], { execArgv: ['--conditions=nexsrc'] });
  const ended = once(child, 'exit');
  const url = await Promise.race([
    once(child, 'message').then(([message]) => message as string),
    ended.then(() => {
      throw new Error(`The process of "${kind}" ended at its start`);
    }),
  ]);
  return {
    url,
    async memory() {
      const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
      const kib = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]);
      return `${((kib * 1024) / MIB).toFixed(0)} MiB`;
    },
    async [Symbol.asyncDispose]() {
      child.disconnect();
      await ended;
    },
  };
}

async function serveDoor(servers: string, configDir: string): Promise<void> {
  const nc = await connectNats({ servers, configDir, env: {} });
  const service = await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') });
  const door = await CacheHttpServer.start(nc);
  process.send?.(door.url);
  await once(process, 'disconnect');
  await door[Symbol.asyncDispose]();
  await service[Symbol.asyncDispose]();
  await nc.close();
}

/** What a static web server does. */
async function serveFiles(folder: string): Promise<void> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const file = join(folder, new URL(request.url ?? '/', 'http://localhost').pathname);
    try {
      const content = createReadStream(file, { highWaterMark: 256 * 1024 });
      await once(content, 'open');
      await pipeline(content, response.writeHead(200));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') response.writeHead(404).end();
      else response.destroy();
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(process, 'disconnect');
  server.closeAllConnections();
  server.close();
}

export const cacheHttpRows: readonly Row[] = [pull];

// Started by itself, this file is one of the servers.
const [kind, what, configDir] = process.argv.slice(2);
if (import.meta.main && what !== undefined && configDir !== undefined) {
  if (kind === 'door') await serveDoor(what, configDir);
  else await serveFiles(what);
}
