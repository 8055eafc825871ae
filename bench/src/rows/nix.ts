import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dumpNar, unpackNar } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { milliseconds, writeTree } from './nix-closure.ts';

const RUNS = 6;
const READ_SIZE = 1024 * 1024;

const dump: Row = {
  id: 'nix.dump',
  what: 'NAR of a tree of 100 MiB, dumpNar() in this process',
  unit: 'ms',
  peer: 'nix-store --dump to /dev/null',
  wanted: 1,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const tree = join(dir.path, 'tree');
    await writeTree(tree);
    const values: number[] = [];
    const peerValues: number[] = [];
    for (let i = 0; i < RUNS; i++) {
      peerValues.push(await milliseconds(() => nixStore(['--dump', tree])));
      values.push(await milliseconds(() => drain(dumpNar(tree))));
    }
    return { values, peerValues, notes: [await startNote(dir.path)] };
  },
};

const restore: Row = {
  id: 'nix.restore',
  what: 'the same NAR from a file to disk, unpackNar() in this process, which hashes it too',
  unit: 'ms',
  peer: 'nix-store --restore',
  wanted: 0.8,
  async measure(): Promise<Measurement> {
    await using dir = await tempDir('nex-bench-');
    const tree = join(dir.path, 'tree');
    const nar = join(dir.path, 'nar');
    await writeTree(tree);
    await writeFile(nar, dumpNar(tree));
    const values: number[] = [];
    const peerValues: number[] = [];
    for (let i = 0; i < RUNS; i++) {
      // All trees stay until the end: ext4 takes long to make files where others were deleted a moment ago.
      const to = join(dir.path, String(i));
      await mkdir(to);
      const theirs = async () =>
        peerValues.push(await milliseconds(() => nixStore(['--restore', join(to, 'theirs')], nar)));
      const ours = async () => {
        const source = createReadStream(nar, { highWaterMark: READ_SIZE });
        values.push(await milliseconds(() => unpackNar(source, join(to, 'ours'))));
      };
      // The first to create files in a folder has it easier.
      for (const measure of i % 2 === 0 ? [theirs, ours] : [ours, theirs]) await measure();
    }
    return { values, peerValues, notes: [await startNote(dir.path)] };
  },
};

async function drain(source: AsyncIterable<Uint8Array>): Promise<number> {
  let size = 0;
  for await (const bytes of source) size += bytes.length;
  return size;
}

async function nixStore(args: readonly string[], input?: string): Promise<void> {
  await using file = input === undefined ? undefined : await open(input);
  const child = spawn('nix-store', args, { stdio: [file?.fd ?? 'ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`nix-store ${args[0]} ended with exit code ${code}`);
}

async function startNote(folder: string): Promise<string> {
  const empty = join(folder, 'empty');
  await writeFile(empty, '');
  const ms = await milliseconds(() => nixStore(['--dump', empty]));
  return `  the figures of nix-store hold the start of its process, ${ms.toFixed(0)} ms`;
}

export const nixRows: readonly Row[] = [dump, restore];
