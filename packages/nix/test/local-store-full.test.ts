import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { storePathHash } from '@nex-nix/nix';
import { startProcess, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { sample } from './sample-path.ts';

const CHILD = fileURLToPath(new URL('full-disk-child.ts', import.meta.url));
/** Mounts a disk of $1 on $2, seen by itself alone, and runs the rest. */
const ON_SMALL_DISK = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"';
const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;

describe.skipIf(!mayMount)('LocalStore on a full disk (skipped where "unshare --mount" is not allowed)', () => {
  it.each([
    ['space', 'size=2m', 1, 400_000],
    ['files', 'nr_inodes=60', 10, 10],
  ])(
    'refuses what finds no %s, leaves nothing of it, and goes on after a collection',
    async (_, limit, count, size) => {
      await using dir = await tempDir();
      const samples = join(dir.path, 'samples');
      const disk = join(dir.path, 'disk');
      await Promise.all([mkdir(samples), mkdir(disk)]);
      const files = Array.from({ length: count }, (_, n) => [`share/${n}`, randomBytes(size)]);
      const made = await Promise.all(
        Array.from({ length: 8 }, (_, n) => sample(`x${n}`, [], Object.fromEntries(files))),
      );
      await writeFile(join(samples, 'infos.json'), JSON.stringify(made.map(({ info }) => info)));
      for (const { info, nar } of made) await writeFile(join(samples, storePathHash(info.storePath)), nar);

      const command = [process.execPath, '--conditions=nexsrc', CHILD, disk, samples];
      await using child = startProcess('unshare', [
        '--mount',
        'sh',
        '-c',
        ON_SMALL_DISK,
        'sh',
        limit,
        disk,
        ...command,
      ]);
      expect((await child.exited).code, child.output()).toBe(0);
      const { outcomes, full, ...rest } = JSON.parse(child.stdout());
      const added = outcomes.filter((outcome: string) => outcome === 'added').length;
      expect(new Set(outcomes)).toEqual(new Set(['added', 'NIX_STORE_FULL']));
      expect(full).toMatchObject({ report: { checkedPaths: added, damaged: [], unrecorded: [] }, inStore: added });
      expect(full.temporary).toEqual([]);
      expect(rest).toEqual({ isWithinBound: true, afterwards: 'added' });
    },
  );
});
