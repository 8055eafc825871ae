import { randomFillSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WorkloadDisks } from '@nex-nix/sandbox';
import { median, type Measurement, type Row } from '../row.ts';

const RUNS = 5;
const PATHS = 4;
const SIZE = 100 << 20;
const HASH = 'abcdfghijklmnpqrsvwxyz0123456789';

/** The disk of a closure of 100 MiB, for a virtual machine: built, and asked for once more. */
const closureDisk: Row = {
  id: 'vm.disk',
  what: 'closure of 100 MiB to a disk of a virtual machine, once',
  unit: 'ms',
  wanted: 250,
  async measure(): Promise<Measurement> {
    const folder = await mkdtemp(join(tmpdir(), 'nex-bench-'));
    try {
      const paths = await makeClosure(folder);
      const [built, cached]: [number[], number[]] = [[], []];
      for (let run = 0; run < RUNS; run++) {
        const place = join(folder, `disks-${run}`);
        const disks = await WorkloadDisks.open({ folder: place, budget: 2 ** 40 });
        built.push(await timed(() => disks.disk(paths)));
        cached.push(await timed(() => disks.disk(paths)));
        await rm(place, { recursive: true });
      }
      return { values: built, notes: [`Asked for again: ${median(cached).toFixed(2)} ms`] };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

async function makeClosure(folder: string) {
  const paths = [];
  for (let index = 0; index < PATHS; index++) {
    const source = join(folder, 'store', `${HASH}-path-${index}`);
    await mkdir(source, { recursive: true });
    await writeFile(join(source, 'file'), randomFillSync(Buffer.alloc(SIZE / PATHS)));
    paths.push({ storePath: `/nix/store/${HASH}-path-${index}`, source });
  }
  return paths;
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await action();
  return performance.now() - begin;
}

export const vmDiskRows: readonly Row[] = [closureDisk];
