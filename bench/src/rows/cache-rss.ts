import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startNatsServer, tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { AS_COMMAND } from './conditions.ts';
import { content } from './nix-closure.ts';

const CHILD = fileURLToPath(import.meta.resolve('./cache-rss-child.mjs'));

export const rss: Row = {
  id: 'cache.rss',
  what: 'most memory of a process that pushes a NAR of 2 GiB, pulls it, or is the service meanwhile: the largest of the three',
  unit: 'MiB',
  wanted: 200,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const file = join(dir.path, 'large');
    await writeFile(file, programs());
    await using server = await startNatsServer();
    const service = start('serve', server.url);
    await once(service, 'message');
    const push = await memoryOf(start('push', server.url, file));
    const pull = await memoryOf(start('pull', server.url, join(dir.path, 'store')));
    service.send('stop');
    const serve = await memoryOf(service);
    return {
      values: [Math.max(push, pull, serve)],
      notes: [`  push ${push.toFixed(0)}, pull ${pull.toFixed(0)}, service ${serve.toFixed(0)} MiB`],
    };
  },
};

/** 2 GiB that compress about as programs do, and do not repeat. */
function* programs(): Generator<Buffer, void> {
  for (let at = 0; at < 512; at++) yield content(4 * 2 ** 20, at);
}

function start(...args: readonly string[]): ChildProcess {
  return fork(CHILD, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], ...AS_COMMAND });
}

/** What the process prints when it is done: the most MiB that it had. */
async function memoryOf(child: ChildProcess): Promise<number> {
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`The process that is measured ended with exit code ${code}`);
  return Number(output);
}
