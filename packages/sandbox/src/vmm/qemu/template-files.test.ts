import { chmod, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { copyMemory } from './template-files.ts';

const MIB = 1024 * 1024;

describe('copyMemory()', () => {
  it('copies every byte, leaves out what is empty, and lets everybody read it and nobody write', async () => {
    await using dir = await tempDir('nex-memory-');
    const [from, to] = [join(dir.path, 'from'), join(dir.path, 'to')];
    const memory = Buffer.alloc(4 * MIB + 4096);
    // At the beginning, over the border of a block, in the middle of nothing, at the very end; and zeros that are written.
    memory.write('first', 0);
    memory.write('over the border', MIB - 7);
    memory.write('x', 2 * MIB + 8191);
    memory.write('last', memory.length - 4);
    await writeFile(from, memory);
    await copyMemory(from, to);
    expect((await readFile(to)).equals(memory)).toBe(true);
    const { blocks, mode } = await stat(to);
    expect(blocks * 512).toBeLessThanOrEqual(8 * 4096);
    expect(mode & 0o777).toBe(0o444);
  });

  it('copies one that is empty, and one that is full', async () => {
    await using dir = await tempDir('nex-memory-');
    const [empty, full] = [join(dir.path, 'empty'), join(dir.path, 'full')];
    await writeFile(empty, '');
    await truncate(empty, 3 * MIB);
    await writeFile(full, Buffer.alloc(2 * MIB, 7));
    await copyMemory(empty, `${empty}.copy`);
    await copyMemory(full, `${full}.copy`);
    expect(await stat(`${empty}.copy`)).toMatchObject({ size: 3 * MIB, blocks: 0 });
    expect((await readFile(`${full}.copy`)).equals(Buffer.alloc(2 * MIB, 7))).toBe(true);
  });

  it('follows no link, and replaces nothing', async () => {
    await using dir = await tempDir('nex-memory-');
    const [secret, link, target] = [join(dir.path, 'secret'), join(dir.path, 'link'), join(dir.path, 'target')];
    await writeFile(secret, 'of this machine');
    await chmod(secret, 0o600);
    await symlink(secret, link);
    await expect(copyMemory(link, target)).rejects.toMatchObject({ code: 'ELOOP' });
    await writeFile(target, 'mine');
    await expect(copyMemory(secret, target)).rejects.toMatchObject({ code: 'EEXIST' });
  });
});
