import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dumpNar, fileChunks, unpackNar } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { inTurn } from './conditions.ts';
import { milliseconds, writeTree } from './nix-closure.ts';
import { rss } from './nix-rss.ts';

const RUNS = 10;
const SMALL_FILES = 20_000;

type Prepare = (folder: string) => Promise<void>;

async function measureDump(prepare: Prepare): Promise<Measurement> {
  await using dir = await tempDir('nex-bench-');
  const tree = join(dir.path, 'tree');
  await prepare(tree);
  const values: number[] = [];
  const peerValues: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    peerValues.push(await milliseconds(() => nixStore(['--dump', tree])));
    values.push(await milliseconds(() => drain(dumpNar(tree, { reuseChunks: true }))));
  }
  return { values, peerValues, notes: [await startNote(dir.path)] };
}

async function measureRestore(prepare: Prepare): Promise<Measurement> {
  await using dir = await tempDir('nex-bench-');
  const tree = join(dir.path, 'tree');
  const nar = join(dir.path, 'nar');
  await prepare(tree);
  await writeFile(nar, dumpNar(tree));
  const measured = await inTurn({
    runs: RUNS,
    theirs: (folder) => milliseconds(() => nixStore(['--restore', join(folder, 'tree')], nar)),
    ours: (folder) =>
      milliseconds(() => unpackNar(fileChunks(nar, { reuseChunks: true }), join(folder, 'tree'), { hash: false })),
  });
  return { ...measured, notes: [await startNote(dir.path), ...measured.notes] };
}

async function writeSmallFiles(folder: string): Promise<void> {
  for (let i = 0; i < SMALL_FILES; i++) {
    const parent = join(folder, `folder-${Math.floor(i / 100)}`);
    if (i % 100 === 0) await mkdir(parent, { recursive: true });
    await writeFile(join(parent, `file-${i}`), Buffer.alloc(1024 + ((i * 7919) % 3072), i));
  }
}

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

const DUMP = { unit: 'ms', peer: 'nix-store --dump to /dev/null' } as const;
const RESTORE = { unit: 'ms', peer: 'nix-store --restore' } as const;

export const nixRows: readonly Row[] = [
  {
    ...DUMP,
    id: 'nix.dump',
    what: 'NAR of a tree of 100 MiB, dumpNar() in this process, its chunks used one by one',
    wanted: 1,
    measure: () => measureDump(writeTree),
  },
  {
    ...RESTORE,
    id: 'nix.restore',
    what: 'the same NAR from a file to disk, unpackNar() of fileChunks() in this process; neither side hashes',
    wanted: 0.8,
    measure: () => measureRestore(writeTree),
  },
  {
    ...DUMP,
    id: 'nix.small-files.dump',
    what: `NAR of ${SMALL_FILES} files of 1 to 4 KiB, dumpNar() in this process, its chunks used one by one`,
    wanted: 1.3,
    measure: () => measureDump(writeSmallFiles),
  },
  {
    ...RESTORE,
    id: 'nix.small-files.restore',
    what: 'the same NAR from a file to disk, unpackNar() of fileChunks() in this process, which sets mode and time too; neither side hashes',
    wanted: 1.3,
    measure: () => measureRestore(writeSmallFiles),
  },
  rss,
];
