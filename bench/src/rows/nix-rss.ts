import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { dumpNar, formatNarInfo, publish, type Publication, storePathHash } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { median, type Measurement, type Row } from '../row.ts';

const RUNS = 5;
const SIZE = 2 * 1024 ** 3;
const run = promisify(execFile);
const CHILD = fileURLToPath(import.meta.resolve('./nix-rss-child.mjs'));

export const rss: Row = {
  id: 'nix.rss',
  what: 'most memory of a process that moves a NAR of 2 GiB over HTTP into a store of our own',
  unit: 'MiB',
  wanted: 150,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const source = join(dir.path, 'source');
    // All zeros, and none of them on the disk: what they are makes no difference to whoever moves them.
    await using file = await open(source, 'w');
    await file.truncate(SIZE);
    const publication = await publish(source);
    await using server = await serve(publication, source);
    const values: number[] = [];
    const copies: number[] = [];
    let atRest = 0;
    for (let i = 0; i < RUNS; i++) {
      const pull = await memoryOf('pull', server.url, publication.info.storePath, join(dir.path, `store-${i}`));
      values.push(pull.most);
      atRest = pull.before;
      copies.push((await memoryOf('copy', source, join(dir.path, 'copy'))).most);
    }
    return {
      values,
      notes: [
        `  ${atRest.toFixed(0)} MiB of it before the first byte; dumpNar() to unpackNar() without HTTP: ${median(copies).toFixed(0)} MiB`,
      ],
    };
  },
};

async function memoryOf(...args: readonly string[]): Promise<{ before: number; most: number }> {
  const { stdout } = await run(process.execPath, [CHILD, ...args]);
  const [before = 0, most = 0] = stdout.trim().split(' ').map(Number);
  return { before, most };
}

/** A binary cache of one path, uncompressed. */
async function serve({ info }: Publication, file: string): Promise<AsyncDisposable & { readonly url: string }> {
  const narInfo = formatNarInfo({ ...info, url: 'nar', compression: 'none' });
  const server = createServer((request, response) => {
    if (request.url === `/${storePathHash(info.storePath)}.narinfo`) response.end(narInfo);
    else if (request.url === '/nar') {
      response.writeHead(200, { 'content-length': info.narSize });
      // What goes wrong on this side, the one that asks says.
      pipeline(dumpNar(file), response).catch(() => response.destroy());
    } else response.writeHead(404).end();
  });
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
