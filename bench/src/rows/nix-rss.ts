import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';

const RUNS = 5;
const SIZE = 2 * 1024 ** 3;
const CHILD = fileURLToPath(import.meta.resolve('./nix-rss-child.ts'));

export const rss: Row = {
  id: 'nix.rss',
  what: 'most memory of a process that moves a NAR of 2 GiB, dumpNar() to unpackNar() with its hash',
  unit: 'MiB',
  wanted: 150,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const source = join(dir.path, 'source');
    // All zeros, and none of them on the disk: what they are makes no difference to whoever moves them.
    await using file = await open(source, 'w');
    await file.truncate(SIZE);
    const values: number[] = [];
    let atRest = 0;
    for (let i = 0; i < RUNS; i++) {
      const args = ['--conditions=nexsrc', CHILD, source, join(dir.path, 'target')];
      const { stdout } = await promisify(execFile)(process.execPath, args);
      const [before = 0, most = 0] = stdout.trim().split(' ').map(Number);
      values.push(most);
      atRest = before;
    }
    return { values, notes: [`  ${atRest.toFixed(0)} MiB of it before the first byte`] };
  },
};
