import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { buildErofs } from './erofs.ts';
import type { TreeEntry } from './tree-entry.ts';

describeWith(['mkfs.erofs', 'unshare'], 'erofs images', () => {
  it('of equal content are equal bytes, whoever owns it and whenever it was made', async () => {
    await using dir = await tempDir();
    const digests = [];
    for (const name of ['one', 'other']) {
      const source = join(dir.path, name);
      await mkdir(join(source, 'bin'), { recursive: true });
      await writeFile(join(source, 'bin/tool'), 'content', { mode: 0o755 });
      await symlink('bin/tool', join(source, 'link'));
      const time = new Date(Date.now() - digests.length * 86_400_000);
      await utimes(join(source, 'bin/tool'), time, time);
      const entries: TreeEntry[] = [
        { name: 'nix/store/path', source },
        { name: 'file', content: 'x' },
        { name: 'empty', folder: true },
      ];
      const output = join(dir.path, `${name}.erofs`);
      await buildErofs({ output, entries: digests.length === 0 ? entries : entries.toReversed() });
      digests.push(
        createHash('sha256')
          .update(await readFile(output))
          .digest('hex'),
      );
    }
    expect(digests[0]).toBe(digests[1]);
    expect((await readdir(dir.path)).sort()).toEqual(['one', 'one.erofs', 'other', 'other.erofs']);
  });

  it('are made of hundreds of folders about as fast as of one', async () => {
    await using dir = await tempDir();
    const entries: TreeEntry[] = [];
    for (let index = 0; index < 300; index++) {
      const source = join(dir.path, `path ${index}`);
      await mkdir(source);
      await writeFile(join(source, 'file'), `${index}`);
      entries.push({ name: `path ${index}`, source });
    }
    const took = async (some: TreeEntry[]): Promise<number> => {
      const begin = performance.now();
      await buildErofs({ output: join(dir.path, 'image'), entries: some });
      return performance.now() - begin;
    };
    const [many, one] = [[], []] as [number[], number[]];
    const ratio = () => Math.min(...many) / Math.min(...one);
    // One process mounts them all: it takes about four times as long. With one for each it would be fifty times.
    for (let run = 0; run < 3 || (run < 10 && ratio() >= 20); run++) {
      one.push(await took(entries.slice(0, 1)));
      many.push(await took(entries));
    }
    const bytes = await readFile(join(dir.path, 'image'), 'latin1');
    expect(bytes).toContain('path 299');
    expect(ratio()).toBeLessThan(20);
  });

  it('have no place for what would lie outside of them, or below what is not theirs', async () => {
    await using dir = await tempDir();
    await symlink('/etc', join(dir.path, 'link'));
    const output = join(dir.path, 'image');
    const source = join(dir.path, 'link');
    const hostile: TreeEntry[][] = [
      ...['', '/etc', '../x', 'a/../b', 'a//b', './a', 'a\0b'].map((name): TreeEntry[] => [{ name, content: '' }]),
      [
        { name: 'a', content: '' },
        { name: 'a', content: '' },
      ],
      [
        { name: 'a', source },
        { name: 'a/b', content: '' },
      ],
      [
        { name: 'a/b', content: '' },
        { name: 'a', target: '/etc' },
      ],
    ];
    for (const entries of hostile) {
      await expect(buildErofs({ output, entries })).rejects.toMatchObject({
        code: expect.stringMatching(/^GUEST_BUILD_FAILED$/) as string,
      });
    }
    expect(await readdir(dir.path)).toEqual(['link']);
  });

  it('are replaced as a whole, and what was there stays when one cannot be built or is not wanted any more', async () => {
    await using dir = await tempDir();
    const output = join(dir.path, 'image');
    await writeFile(output, 'earlier');
    const socket = join(dir.path, 'fifo');
    expect(spawnSync('mkfifo', [socket]).status).toBe(0);
    const pipe = buildErofs({ output, entries: [{ name: 'pipe', source: socket }] });
    await expect(pipe).rejects.toThrow('is neither file, folder nor link');
    const entries: TreeEntry[] = [{ name: 'bin', source: '/usr/bin' }];
    const signal = AbortSignal.timeout(20);
    await expect(buildErofs({ output, entries, signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(await readFile(output, 'utf8')).toBe('earlier');
    expect((await readdir(dir.path)).sort()).toEqual(['fifo', 'image']);
    await buildErofs({ output, entries: [] });
    expect((await readFile(output)).readUInt32LE(1024)).toBe(0xe0f5e1e2);
  });

  it('keep modes, whatever the file mode creation mask is', async () => {
    await using dir = await tempDir();
    const script = `
      process.umask(0o077);
      const { buildErofs } = await import(${JSON.stringify(new URL('erofs.ts', import.meta.url).href)});
      await buildErofs({ output: process.argv[1], entries: [{ name: 'a/b/c', content: 'x', executable: true }] });`;
    const run = (output: string, mask: string) => {
      const source = script.replace('0o077', mask);
      return spawnSync(process.execPath, ['--conditions=nexsrc', '--input-type=module', '-e', source, output]);
    };
    const [strict, usual] = [join(dir.path, 'strict'), join(dir.path, 'usual')];
    expect(run(strict, '0o077').stderr.toString()).toBe('');
    expect(run(usual, '0o022').stderr.toString()).toBe('');
    expect((await readFile(strict)).equals(await readFile(usual))).toBe(true);
    await chmod(strict, 0o600);
  });
});

describeWith(['mkfs.erofs', 'fsck.erofs', 'unshare'], 'the content of erofs images', () => {
  it('is whole, as another program reads it', async () => {
    await using dir = await tempDir();
    const output = join(dir.path, 'image');
    await buildErofs({
      output,
      entries: [
        { name: 'a b', content: 'x' },
        { name: 'bin', source: join(import.meta.dirname) },
      ],
    });
    const { status, stdout } = spawnSync(findTool('fsck.erofs') ?? '', [output]);
    expect({ status, said: stdout.toString() }).toMatchObject({ status: 0 });
  });
});
