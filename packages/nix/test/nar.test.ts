import { createHash, randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { dumpNar, narHashOf, narOf, type NarTree, readNar, unpackNar } from '@nex-nix/nix';
import { describeEachNix, startProcess, tempDir } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { removeTree } from '../src/nar/remove-tree.ts';
import { cut } from './nar-strings.ts';

async function dump(path: string): Promise<Buffer> {
  const chunks = await Array.fromAsync(dumpNar(path));
  expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThanOrEqual(1024 * 1024);
  return Buffer.concat(chunks);
}

const bytesPath = (dir: string | Buffer, name: Uint8Array) => Buffer.concat([Buffer.from(dir), Buffer.from('/'), name]);

/** A folder with everything that is difficult. */
async function writeTree(dir: string): Promise<void> {
  await mkdir(join(dir, 'empty'), { recursive: true });
  await mkdir(join(dir, 'sub/deeper'), { recursive: true });
  await writeFile(join(dir, 'a'), 'a');
  await writeFile(join(dir, 'a.b'), '');
  await writeFile(join(dir, 'sub/program'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(dir, 'sub/for others only'), 'x');
  await chmod(join(dir, 'sub/for others only'), 0o611);
  for (const size of [7, 8, 9, 256 * 1024 - 112, 256 * 1024, 256 * 1024 + 1, 3_000_000]) {
    await writeFile(join(dir, `sub/deeper/${size}`), randomBytes(size));
  }
  await symlink('/nonexistent/ü', join(dir, 'dangling'));
  await symlink('sub', join(dir, 'to a folder'));
  for (const name of [[0xff, 0xfe], [0x0a], [...Buffer.from('\uFFEE')], [...Buffer.from('\u{1F600}')]]) {
    await writeFile(bytesPath(dir, Uint8Array.from(name)), String(name));
  }
}

describe('dumpNar() and unpackNar()', () => {
  it('give every tree back', async () => {
    const name = fc
      .uint8Array({ minLength: 1, maxLength: 12 })
      .filter(
        (bytes) =>
          !bytes.includes(0) && !bytes.includes(0x2f) && !['.', '..'].includes(Buffer.from(bytes).toString('latin1')),
      );
    type Tree =
      | { file: Uint8Array; executable: boolean }
      | { target: string }
      | { entries: (readonly [Uint8Array, Tree])[] };
    const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        fc.record({ file: fc.uint8Array({ maxLength: 100 }), executable: fc.boolean() }),
        fc.stringMatching(/^[^\0]{1,30}$/).map((target) => ({ target })),
        fc
          .uniqueArray(fc.tuple(name, tie('tree')), {
            selector: ([bytes]) => Buffer.from(bytes).toString('hex'),
            maxLength: 5,
          })
          .map((entries) => ({ entries })),
      ),
    }));
    const write = async (path: Buffer, node: Tree): Promise<void> => {
      if ('file' in node) await writeFile(path, node.file, { mode: node.executable ? 0o755 : 0o644 });
      else if ('target' in node) await symlink(node.target, path);
      else {
        await mkdir(path);
        for (const [name, child] of node.entries) await write(bytesPath(path, name), child);
      }
    };
    await using dir = await tempDir();
    let run = 0;
    await fc.assert(
      fc.asyncProperty(tree, fc.integer({ min: 1, max: 300 }), async (node, size) => {
        const [from, to] = [join(dir.path, `from${++run}`), join(dir.path, `to${run}`)];
        try {
          await write(Buffer.from(from), node);
          const nar = await dump(from);
          const result = await unpackNar(cut(nar, size), to);
          expect(result).toEqual({
            narHash: narHashOf(createHash('sha256').update(nar).digest()),
            narSize: nar.length,
          });
          expect(nar.equals(await dump(to))).toBe(true);
        } finally {
          await removeTree(from);
          await removeTree(to);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('sets the metadata that Nix sets', async () => {
    await using dir = await tempDir();
    const [from, to] = [join(dir.path, 'from'), join(dir.path, 'to')];
    await writeTree(from);
    await unpackNar(dumpNar(from), to);
    const metadata = async (name: string) => {
      const { mode, mtimeMs } = await lstat(join(to, name));
      return [(mode & 0o7777).toString(8), mtimeMs];
    };
    for (const name of ['', 'empty', 'sub', 'sub/program']) expect(await metadata(name)).toEqual(['555', 1000]);
    for (const name of ['a', 'sub/for others only', 'sub/deeper/3000000'])
      expect(await metadata(name)).toEqual(['444', 1000]);
    expect((await metadata('dangling'))[1]).toBe(1000);
    expect(await readlink(join(to, 'dangling'))).toBe('/nonexistent/ü');
  });

  it('does so in a large tree, whose folders end in other pieces than they began', async () => {
    await using dir = await tempDir();
    const folder = (depth: number): NarTree => ({
      type: 'directory',
      entries: [
        ...[1, 70_000, 600_000, 3].map(
          (size, n) => [`a${n}`, { type: 'regular', contents: randomBytes(size) }] as const,
        ),
        ...Array.from({ length: 40 }, (_, n) => [`b${n}`, { type: 'symlink', target: `a${n}` }] as const),
        ...(depth > 0 ? ['c', 'd'] : []).map((name) => [name, folder(depth - 1)] as const),
        ['e', { type: 'directory', entries: [] }],
        ['z', { type: 'regular', contents: Buffer.from('z'), executable: true }],
      ],
    });
    const tree = folder(4);
    const from = Buffer.concat(await Array.fromAsync(narOf(tree)));
    const to = join(dir.path, 'to');
    await unpackNar(cut(from, 100_000), to);
    expect((await dump(to)).equals(from)).toBe(true);
    const all = await readdir(to, { recursive: true, withFileTypes: true });
    for (const entry of [...all.map(({ parentPath, name }) => join(parentPath, name)), to]) {
      const stats = await lstat(entry);
      expect(stats.mtimeMs).toBe(1000);
      if (!stats.isSymbolicLink()) expect([0o444, 0o555]).toContain(stats.mode & 0o7777);
    }
  });

  it('sets it whatever the umask', async () => {
    await using dir = await tempDir();
    const code = `
      import { narOf, unpackNar } from '@nex-nix/nix';
      const file = (size, executable) => ({ type: 'regular', contents: Buffer.alloc(size), executable });
      const entries = Object.entries({ a: file(1), b: file(1, true), c: file(1), d: file(2_000_000) });
      await unpackNar(narOf({ type: 'directory', entries }), ${JSON.stringify(join(dir.path, 'to'))});`;
    const script = 'umask 077; exec "$0" --conditions=nexsrc --input-type=module -e "$1"';
    await using child = startProcess('/bin/sh', ['-c', script, process.execPath, code], { cwd: import.meta.dirname });
    expect(await child.exited, child.output()).toEqual({ code: 0, signal: null });
    const modes = ['', 'a', 'b', 'c', 'd'].map(async (name) => (await lstat(join(dir.path, 'to', name))).mode & 0o7777);
    expect(await Promise.all(modes)).toEqual([0o555, 0o444, 0o555, 0o444, 0o444]);
  });

  it('keep the NAR in pieces: memory does not grow with the file', async () => {
    await using dir = await tempDir();
    const big = join(dir.path, 'big');
    await writeFile(big, Buffer.alloc(64 * 1024 * 1024, 1));
    let largest = 0;
    for await (const event of readNar(dumpNar(big))) {
      if (event.type === 'data') largest = Math.max(largest, event.bytes.length);
    }
    expect(largest).toBeLessThanOrEqual(1024 * 1024);
  });
});

describe('unpackNar()', () => {
  it('leaves nothing behind when it fails', async () => {
    await using dir = await tempDir();
    await writeTree(join(dir.path, 'from'));
    const nar = await dump(join(dir.path, 'from'));
    for (const length of [100, 2000, nar.length - 3_000_000, nar.length - 8]) {
      await expect(unpackNar(cut(nar.subarray(0, length), 65_536), join(dir.path, 'to'))).rejects.toMatchObject({
        code: 'NIX_NAR_INVALID',
      });
    }
    await expect(unpackNar(cut(nar, 65_536), join(dir.path, 'to'), { maxSize: nar.length - 1 })).rejects.toMatchObject({
      code: 'NIX_NAR_SIZE_MISMATCH',
    });
    expect(await readdir(dir.path)).toEqual(['from']);
  });

  it('stops when it is told to, and leaves nothing behind', async () => {
    await using dir = await tempDir();
    const controller = new AbortController();
    const contents = async function* (): AsyncGenerator<Uint8Array, void> {
      for (let n = 0; n < 8; n++) yield Buffer.alloc(1_000_000);
      controller.abort(new Error('enough'));
      await new Promise(() => undefined);
    };
    const nar = narOf({ type: 'regular', contents: contents(), size: 100_000_000 });
    await expect(unpackNar(nar, join(dir.path, 'to'), { signal: controller.signal })).rejects.toThrow('enough');
    expect(await readdir(dir.path)).toEqual([]);
  });

  it('names what the disk refuses in the middle of much else, and leaves nothing behind', async () => {
    await using dir = await tempDir();
    const file = { type: 'regular', contents: randomBytes(3_000_000) } as const;
    let deep: NarTree = file;
    for (let level = 0; level < 20; level++) deep = { type: 'directory', entries: [['d'.repeat(250), deep]] };
    const many = Array.from({ length: 1000 }, (_, n) => [`a${n}`, { type: 'regular', contents: 'small' }] as const);
    const nar = narOf({ type: 'directory', entries: [...many, ['b', file], ['c', deep], ['e', file]] });
    await expect(unpackNar(nar, join(dir.path, 'to'))).rejects.toMatchObject({
      code: 'NIX_UNPACK_FAILED',
      message: expect.stringMatching(/^Cannot write "[^"]+\/to\/c\/(d{250}\/)+d{250}": ENAMETOOLONG/),
    });
    expect(await readdir(dir.path)).toEqual([]);
  });

  it.runIf(availableParallelism() > 1)('has a second thread write files when the first is behind', async () => {
    await using dir = await tempDir();
    const target = join(dir.path, 'to');
    const file = (executable: boolean) => ({ type: 'regular', executable, contents: randomBytes(30_000) }) as const;
    const folder = (depth: number): NarTree => ({
      type: 'directory',
      entries: [
        ...Array.from({ length: 10 }, (_, n) => [`a${n}`, file(n % 2 === 0)] as const),
        ...(depth > 0 ? [0, 1, 2].map((n) => [`b${n}`, folder(depth - 1)] as const) : []),
        ['c', { type: 'symlink', target: 'a0' }],
      ],
    });
    const nar = Buffer.concat(await Array.fromAsync(narOf(folder(4))));
    await unpackNar(cut(nar, 1024 * 1024), target);
    const threads = await Promise.all(
      (await readdir('/proc/self/task')).map((id) => readFile(`/proc/self/task/${id}/comm`, 'utf8').catch(() => '')),
    );
    expect(threads.filter((name) => name.trim() === 'writeTree').length).toBeGreaterThan(1);
    expect((await dump(target)).equals(nar)).toBe(true);
    const entries = await readdir(target, { recursive: true, withFileTypes: true });
    expect(entries).toHaveLength(11 * 121 + 120);
    const directories = entries
      .filter((entry) => entry.isDirectory())
      .map(({ parentPath, name }) => join(parentPath, name));
    for (const path of [target, ...directories]) {
      const { mode, mtimeMs } = await lstat(path);
      expect({ path, mode: mode & 0o777, mtimeMs }).toEqual({ path, mode: 0o555, mtimeMs: 1000 });
    }
  });

  it('leaves nothing behind when several threads fail', async () => {
    await using dir = await tempDir();
    const target = join(dir.path, 'to');
    const file = { type: 'regular', contents: randomBytes(60_000) } as const;
    const files = (name: string) => Array.from({ length: 200 }, (_, n) => [`${100 + n}${name}`, file] as const);
    // Folders just short enough, the files in the last of them are not.
    let deep: NarTree = { type: 'directory', entries: files('f'.repeat(252)) };
    for (let length = target.length + 1; length + 251 < 4090; length += 251) {
      deep = { type: 'directory', entries: [['d'.repeat(250), deep]] };
    }
    const nar = narOf({ type: 'directory', entries: [...files('a'), ['b', deep]] });
    await expect(unpackNar(nar, target)).rejects.toMatchObject({
      code: 'NIX_UNPACK_FAILED',
      message: expect.stringMatching(/^Cannot write "[^"]+\/to\/b\/(d{250}\/)+\d{3}f{252}": ENAMETOOLONG/),
    });
    expect(await readdir(dir.path)).toEqual([]);
  });

  it('touches nothing that is already there', async () => {
    await using dir = await tempDir();
    const [file, folder, link] = ['file', 'folder', 'link'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ];
    await writeFile(file, 'mine');
    await mkdir(folder);
    await symlink('elsewhere', link);
    for (const nar of [await dump(file), await dump(folder), await dump(link)]) {
      for (const target of [file, folder, link]) {
        await expect(unpackNar(cut(nar, 100), target)).rejects.toMatchObject({
          code: 'NIX_UNPACK_FAILED',
          message: expect.stringContaining(target),
        });
      }
    }
    expect((await readdir(dir.path)).toSorted()).toEqual(['file', 'folder', 'link']);
    expect(await readlink(link)).toBe('elsewhere');
  });
});

describe('dumpNar()', () => {
  it('names what it cannot read', async () => {
    await using dir = await tempDir();
    await expect(dump(join(dir.path, 'absent'))).rejects.toMatchObject({
      code: 'NIX_DUMP_FAILED',
      message: expect.stringContaining(`"${dir.path}/absent"`),
    });
    await using socket = startProcess(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(join(dir.path, 'socket'))}, () => console.log('up'))`,
    ]);
    await expect.poll(() => socket.stdout()).toContain('up');
    await expect(dump(dir.path)).rejects.toThrow(/socket": it is a device, socket or pipe/);
  });
});

describeEachNix('NARs and nix-store', (nix) => {
  it('are the same both ways', async () => {
    await using dir = await tempDir();
    const [tree, ours, theirs] = ['tree', 'ours', 'theirs'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ];
    await writeTree(tree);
    const nar = await nix.run('nix-store', '--dump', tree);
    expect(nar.equals(await dump(tree))).toBe(true);

    const { narHash, narSize } = await unpackNar(cut(nar, 100_000), ours);
    expect(narSize).toBe(nar.length);
    expect(narHash).toBe(`sha256:${(await nix.run('nix', 'hash', 'path', '--base32', tree)).toString().trim()}`);
    expect(nar.equals(await nix.run('nix-store', '--dump', ours))).toBe(true);

    await nix.runWithInput(await dump(ours), 'nix-store', '--restore', theirs);
    expect(nar.equals(await nix.run('nix-store', '--dump', theirs))).toBe(true);
  });

  it('are the same for single files and links', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'file'), 'x', { mode: 0o755 });
    await symlink('tgt', join(dir.path, 'link'));
    for (const name of ['file', 'link']) {
      const path = join(dir.path, name);
      expect((await nix.run('nix-store', '--dump', path)).equals(await dump(path))).toBe(true);
    }
  });
});
