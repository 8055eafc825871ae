import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
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
import { inTurn } from './conditions.ts';
import { makeClosure, milliseconds } from './nix-closure.ts';

const RUNS = 10;
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

  const trusted = ['--option', 'trusted-public-keys', formatPublicKey(publicKeyOf(key))];
  const theirs = (folder: string) => {
    const store = `local?root=${join(folder, 'store')}`;
    // A cache folder of its own, so that nothing is remembered from run to run.
    const env = { ...closure.env, XDG_CACHE_HOME: join(folder, 'cache') };
    const args = ['--store', store, 'copy', ...trusted, '--from', server.url, '--to', store, closure.path];
    return milliseconds(() => run('nix', args, { env }));
  };
  const ours = (folder: string) =>
    milliseconds(async () => {
      await using store = await LocalStore.open({ dir: join(folder, 'store') });
      await copyClosure(openBinaryCache(server.url), store, [closure.path], { trustedKeys: [publicKeyOf(key)] });
    });
  const measured = await inTurn({ runs: RUNS, ours, theirs });
  const note = '  both verify signatures and hashes; the figures of nix hold the start of its process';
  return { ...measured, notes: [note, ...measured.notes] };
}

interface FileServer extends AsyncDisposable {
  readonly url: string;
}

/** A file server in a process of its own, which answers from memory: on a machine of two cores it would take time from both sides. */
async function startServer(folder: string): Promise<FileServer> {
  const child = fork(import.meta.filename, [folder]);
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
  const contents = new Map<string, Buffer>();
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    try {
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      const content = contents.get(pathname) ?? (await readFile(join(folder, pathname)));
      contents.set(pathname, content);
      response.writeHead(200, { 'content-length': content.length });
      response.end(request.method === 'HEAD' ? undefined : content);
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
