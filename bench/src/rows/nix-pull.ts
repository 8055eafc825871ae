import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { open, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import {
  copyClosure,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  LocalStore,
  openBinaryCache,
  publicKeyOf,
} from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { makeClosure, milliseconds } from './nix-closure.ts';

const RUNS = 6;
const READ_SIZE = 256 * 1024;
const WANTED = { none: 0.7, zstd: 0.8, xz: 1 } as const;
const run = promisify(execFile);

function pull(compression: keyof typeof WANTED): Row {
  return {
    id: `nix.pull.${compression}`,
    what: `a signed closure of 100 MiB in 12 paths from a file server on loopback into an empty store of our own, ${compression}`,
    unit: 'ms',
    peer: 'nix copy --from the same server into an empty Nix store',
    wanted: WANTED[compression],
    measure: () => measure(compression),
  };
}

async function measure(compression: string): Promise<Measurement> {
  await using dir = await tempDir('nex-bench-');
  const closure = await makeClosure(dir.path);
  const key = generateSecretKey('bench-1');
  const keyFile = join(dir.path, 'key');
  await writeFile(keyFile, formatSecretKey(key));
  const files = join(dir.path, 'files');
  const to = `file://${files}?compression=${compression}&secret-key=${keyFile}`;
  await run('nix', ['--store', closure.store, 'copy', '--to', to, closure.path], { env: closure.env });
  await using server = await startServer(files);

  const values: number[] = [];
  const peerValues: number[] = [];
  const theirs = async (folder: string) => {
    const store = `local?root=${join(folder, 'theirs')}`;
    // A cache folder of its own, so that nothing is remembered from run to run.
    const env = { ...closure.env, XDG_CACHE_HOME: join(folder, 'cache') };
    const trusted = ['--option', 'trusted-public-keys', formatPublicKey(publicKeyOf(key))];
    const args = ['--store', store, 'copy', ...trusted, '--from', server.url, '--to', store, closure.path];
    peerValues.push(await milliseconds(() => run('nix', args, { env })));
  };
  const ours = async (folder: string) => {
    const pulling = async () => {
      await using store = await LocalStore.open({ dir: join(folder, 'ours') });
      await copyClosure(openBinaryCache(server.url), store, [closure.path], { trustedKeys: [publicKeyOf(key)] });
    };
    values.push(await milliseconds(pulling));
  };
  for (let i = 0; i < RUNS; i++) {
    await using folder = await tempDir('nex-bench-');
    for (const side of i % 2 === 0 ? [theirs, ours] : [ours, theirs]) await side(folder.path);
  }
  return {
    values,
    peerValues,
    notes: ['  both verify signatures and hashes; the figures of nix hold the start of its process'],
  };
}

interface FileServer extends AsyncDisposable {
  readonly url: string;
}

/** A file server in a process of its own, so that it takes no time from either side's. */
async function startServer(folder: string): Promise<FileServer> {
  const child = fork(import.meta.filename, [folder], { execArgv: ['--conditions=nexsrc'] });
  const [url] = (await once(child, 'message')) as [string];
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.disconnect();
      await once(child, 'exit');
    },
  };
}

async function serve(folder: string): Promise<void> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    try {
      await using file = await open(join(folder, new URL(request.url ?? '/', 'http://localhost').pathname));
      const { size } = await file.stat();
      response.writeHead(200, { 'content-length': size });
      if (request.method === 'HEAD') response.end();
      else await pipeline(file.createReadStream({ highWaterMark: READ_SIZE, autoClose: false }), response);
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

export const nixPullRows: readonly Row[] = [pull('none'), pull('zstd'), pull('xz')];

// Started by itself, this file is the server.
const [folder] = process.argv.slice(2);
if (import.meta.main && folder !== undefined) await serve(folder);
