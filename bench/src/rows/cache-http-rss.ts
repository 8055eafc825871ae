import { type ChildProcess, execFile, fork } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createZstdCompress } from 'node:zlib';
import { encodeNixBase32, narOf } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { AS_COMMAND } from './conditions.ts';
import { TOKEN } from './cache-http-sides.ts';
import { startCache } from './cache-process.ts';

const run = promisify(execFile);
const CHILD = fileURLToPath(import.meta.resolve('./cache-http-rss-child.mjs'));
const MIB = 2 ** 20;
const SIZE = 2048 * MIB;

export const httpRss: Row = {
  id: 'cache.http.rss',
  what: 'most memory of an HTTP door that takes a NAR of 2 GiB and sends it: uncompressed, and zstd; the larger of the two',
  unit: 'MiB',
  wanted: 200,
  async measure(): Promise<Measurement> {
    const plain = await memoryFor('none', 1);
    const zstd = await memoryFor('zstd', 2);
    return {
      values: [Math.max(plain, zstd)],
      notes: [`  uncompressed ${plain.toFixed(0)}, zstd ${zstd.toFixed(0)} MiB`],
    };
  },
};

async function memoryFor(compression: 'none' | 'zstd', seed: number): Promise<number> {
  const file = () => (compression === 'none' ? nar(seed) : nar(seed).pipe(createZstdCompress()));
  const hash = createHash('sha256');
  await pipeline(file(), hash);
  const name = `${encodeNixBase32(hash.read() as Buffer)}.nar${compression === 'none' ? '' : '.zst'}`;
  await using dir = await tempDir('nex-bench-');
  await using cache = await startCache(dir.path);
  const server = `nats://${cache.nc.getServer()}`;
  const door = fork(CHILD, [server], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], ...AS_COMMAND });
  let output = '';
  door.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [url] = (await Promise.race([once(door, 'message'), failedStart(door)])) as [string];
  await put(`${url}/nar/${name}`, file());
  await run('curl', ['--fail', '--silent', '--output', '/dev/null', `${url}/nar/${name}`]);
  door.send('stop');
  await once(door, 'close');
  return Number(output);
}

async function failedStart(door: ChildProcess): Promise<never> {
  const [code] = (await once(door, 'exit')) as [number | null];
  throw new Error(`The door ended with exit code ${code} before it was open`);
}

async function put(url: string, body: Readable): Promise<void> {
  const sending = request(url, { method: 'PUT', headers: { authorization: `Bearer ${TOKEN}` } });
  const answered = once(sending, 'response');
  await pipeline(body, sending);
  const [answer] = (await answered) as [{ statusCode?: number } & Readable];
  answer.resume();
  if (answer.statusCode !== 201) throw new Error(`The door does not take a NAR: ${answer.statusCode}`);
}

/** One file that does not compress and does not repeat. */
function nar(seed: number): Readable {
  const noise = async function* () {
    const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
    for (let at = 0; at < SIZE; at += MIB) yield cipher.update(Buffer.alloc(MIB));
  };
  return Readable.from(narOf({ type: 'regular', contents: noise(), size: SIZE }), { objectMode: false });
}
