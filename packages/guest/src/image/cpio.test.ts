import { spawnSync } from 'node:child_process';
import { readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { type CpioEntry, writeCpio } from './cpio.ts';

const ENTRIES: readonly CpioEntry[] = [
  { name: 'init', content: '#!/bin/busybox sh\n', executable: true },
  { name: 'deep/below/file', content: Buffer.from([0, 1, 2, 255]) },
  { name: 'bin/sh', target: 'busybox' },
  { name: 'dev', folder: true },
];

describeWith(['busybox'], 'archives for an initrd', () => {
  it('are unpacked by another program as what was put in, folders above the files included', async () => {
    await using dir = await tempDir();
    const options = { input: writeCpio(ENTRIES), cwd: dir.path };
    const { status, stderr } = spawnSync(findTool('busybox') ?? '', ['cpio', '-id'], options);
    expect({ status, stderr: stderr.toString() }).toMatchObject({ status: 0 });
    expect(await readFile(join(dir.path, 'init'), 'utf8')).toBe('#!/bin/busybox sh\n');
    expect((await stat(join(dir.path, 'init'))).mode & 0o777).toBe(0o755);
    expect([...(await readFile(join(dir.path, 'deep/below/file')))]).toEqual([0, 1, 2, 255]);
    expect(await readlink(join(dir.path, 'bin/sh'))).toBe('busybox');
    expect((await stat(join(dir.path, 'dev'))).isDirectory()).toBe(true);
  });

  it('of equal entries are equal bytes', () => {
    expect(writeCpio(ENTRIES).equals(writeCpio(structuredClone(ENTRIES)))).toBe(true);
  });
});
