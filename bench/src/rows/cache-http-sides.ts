import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { CacheHttpServer, CacheService } from '@nex-nix/cache';
import { connectNats } from '@nex-nix/nats-context';
import { generateSecretKey } from '@nex-nix/nix';
import { AS_COMMAND } from './conditions.ts';

/** For writing through a door. */
export const TOKEN = 'bench';
const MIB = 2 ** 20;

/** An HTTP server in a process of its own. */
export interface Side extends AsyncDisposable {
  readonly url: string;
  /** The most memory that the process had, as text. */
  memory(): Promise<string>;
}

/** `files` serves the folder `what`; `door` the cache at the server `what`, as does `cache`, which is the service of the cache too. */
export async function startSide(kind: 'files' | 'door' | 'cache', what: string, configDir: string): Promise<Side> {
  const child = fork(import.meta.filename, [kind, what, configDir], kind === 'files' ? {} : AS_COMMAND);
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

async function serveDoor(
  servers: string,
  { configDir, isService }: { configDir: string; isService: boolean },
): Promise<void> {
  const nc = await connectNats({ servers, configDir, env: {} });
  const service = isService ? await CacheService.start(nc, { secretKey: generateSecretKey('bench-1') }) : undefined;
  const door = await CacheHttpServer.start(nc, { token: TOKEN });
  process.send?.(door.url);
  await once(process, 'disconnect');
  await door[Symbol.asyncDispose]();
  await service?.[Symbol.asyncDispose]();
  await nc.close();
}

/** What a static web server with PUT does. */
async function serveFiles(folder: string): Promise<void> {
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
  process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(process, 'disconnect');
  server.closeAllConnections();
  server.close();
}

// Started by itself, this file is one of the servers.
const [kind, what, configDir] = process.argv.slice(2);
if (import.meta.main && what !== undefined && configDir !== undefined) {
  if (kind === 'files') await serveFiles(what);
  else await serveDoor(what, { configDir, isService: kind === 'cache' });
}
