import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tempDir } from '@nex-nix/test-kit';

const run = promisify(execFile);
const DISK_SIZE = 8 * 2 ** 30;

/** How the nex command starts what lives long (packages/cli/bin/nex.js). The options are those of this process, by scripts/bench.mjs. */
export const AS_COMMAND = {
  execArgv: process.execArgv,
  env: { ...process.env, MALLOC_ARENA_MAX: '2' },
};

/** Writes into an empty folder, and tells how many milliseconds that took. */
type Side = (folder: string) => Promise<number>;

interface Sides {
  /** How many count. */
  readonly runs: number;
  readonly ours: Side;
  readonly theirs: Side;
}

interface InTurn {
  readonly values: readonly number[];
  readonly peerValues: readonly number[];
  readonly notes: readonly string[];
}

/** Measures two sides, which begin by turns, each run on an {@link emptyDisk}. The first run of each is not counted: it makes both warm. */
export async function inTurn({ runs, ours, theirs }: Sides): Promise<InTurn> {
  const values: number[] = [];
  const peerValues: number[] = [];
  const sides = [
    { measure: theirs, into: peerValues },
    { measure: ours, into: values },
  ];
  for (let i = 0; i <= runs; i++) {
    for (const { measure, into } of i % 2 === 0 ? sides : sides.toReversed()) {
      await using disk = await emptyDisk();
      into.push(await measure(disk.path));
    }
  }
  const [first = 0, ...warm] = values;
  return {
    values: warm,
    peerValues: peerValues.slice(1),
    notes: [
      `  the first run of our process, while its code is compiled, took ${first.toFixed(0)} ms and is not counted`,
    ],
  };
}

interface EmptyDisk extends AsyncDisposable {
  readonly path: string;
}

/**
 * A folder on a new file system, and nothing left to be written elsewhere. On the file system at hand, chance decides who is faster:
 * ext4 takes several times as long to make files near where some were deleted in the last five minutes. And what is read and written
 * in it is forgotten with it, so that the next finds the memory that this one has used: in a virtual machine whose free memory goes
 * back to the host, to write to a page for the first time takes up to five times as long.
 *
 * It takes root and a loop device; without them, it is an ordinary folder.
 */
async function emptyDisk(): Promise<EmptyDisk> {
  await run('sync');
  return (await mountDisk()) ?? (await tempDir('nex-bench-'));
}

async function mountDisk(): Promise<EmptyDisk | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const path = await mkdtemp(join(tmpdir(), 'nex-bench-'));
  const image = `${path}.img`;
  try {
    await run('truncate', ['--size', `${DISK_SIZE}`, image]);
    await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'assume_storage_prezeroed=1,nodiscard', image]);
    const { stdout } = await run('losetup', ['--find', '--show', '--direct-io=on', image]);
    const device = stdout.trim();
    try {
      await run('mount', [device, path]);
    } finally {
      // It goes once it is not mounted any more.
      await run('losetup', ['--detach', device]);
    }
  } catch {
    await rm(path, { recursive: true });
    return undefined;
  } finally {
    await rm(image, { force: true });
  }
  const unmount = () => execFileSync('umount', ['--lazy', path]);
  process.once('exit', unmount);
  return {
    path,
    async [Symbol.asyncDispose]() {
      process.off('exit', unmount);
      await run('umount', [path]);
      await rm(path, { recursive: true });
    },
  };
}
