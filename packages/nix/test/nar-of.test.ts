import { createHash, randomBytes } from 'node:crypto';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dumpNar, narHashOf, narOf, type NarTree, readNar, unpackNar } from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { cut } from './nar-strings.ts';

async function bytesOf(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks = await Array.fromAsync(source);
  expect(Math.max(...chunks.map(({ length }) => length))).toBeLessThanOrEqual(1024 * 1024);
  return Buffer.concat(chunks);
}

const file = (contents: string | Uint8Array, executable = false): NarTree => ({
  type: 'regular',
  contents,
  executable,
});
const folder = (...entries: [string | Uint8Array, NarTree][]): NarTree => ({ type: 'directory', entries });
const nested = (levels: number): NarTree => (levels === 0 ? file('') : folder(['d', nested(levels - 1)]));

describe('narOf()', () => {
  it('gives the NAR of the same tree on disk', async () => {
    await using dir = await tempDir();
    const root = join(dir.path, 'tree');
    const big = randomBytes(2_500_000);
    await mkdir(join(root, 'sub/empty'), { recursive: true });
    await writeFile(join(root, '\uFFEE'), 'a');
    await writeFile(join(root, '\u{1F600}'), 'b');
    await writeFile(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff])]), 'bytes');
    await writeFile(join(root, 'sub/program'), '#!/bin/sh\n', { mode: 0o755 });
    for (const name of ['big', 'stream']) await writeFile(join(root, name), big);
    await symlink('../ü', join(root, 'link'));
    const tree = folder(
      [new Uint8Array([0xff]), file('bytes')],
      ['\u{1F600}', file('b')],
      ['\uFFEE', file('a')],
      [
        'sub',
        {
          type: 'directory',
          entries: new Map([
            ['program', file('#!/bin/sh\n', true)],
            ['empty', folder()],
          ]),
        },
      ],
      ['stream', { type: 'regular', contents: cut(big, 70_000), size: big.length }],
      ['link', { type: 'symlink', target: '../ü' }],
      ['big', file(big)],
    );
    expect((await bytesOf(narOf(tree))).equals(await bytesOf(dumpNar(root)))).toBe(true);
  });

  it.each<[string, NarTree, string]>([
    ['an empty name', folder(['', file('')]), '".": the name "" in it is empty'],
    ['the name ..', folder(['a', folder(['..', file('')])]), '"./a": the name ".." in it is "." or ".."'],
    ['a slash in a name', folder(['a/b', file('')]), 'contains "/"'],
    ['a long name', folder(['x'.repeat(256), file('')]), 'has 256 bytes, at most 255 are allowed'],
    [
      'a name twice, as text and bytes',
      folder(['ü', file('')], [Buffer.from('ü'), file('')]),
      'the name "ü" in it appears twice',
    ],
    ['half a surrogate pair', folder(['\ud83d', file('')]), 'is not well-formed Unicode'],
    ['an empty target', folder(['l', { type: 'symlink', target: '' }]), '"./l": the link target is empty'],
    ['NUL in a target', { type: 'symlink', target: 'a\0' }, '".": the link target contains a NUL'],
    ['64 levels', nested(64), 'it is nested deeper than 64 levels'],
    [
      'too short a stream',
      { type: 'regular', contents: cut(Buffer.alloc(9)), size: 10 },
      'its contents are 1 bytes shorter than the promised 10',
    ],
    [
      'too long a stream',
      { type: 'regular', contents: cut(Buffer.alloc(11), 4), size: 10 },
      'its contents are longer than the promised 10 bytes',
    ],
    ['no size', { type: 'regular', contents: cut(Buffer.alloc(1)), size: -1 }, '-1 is not a size in bytes'],
  ])('refuses %s', async (_, tree, why) => {
    await expect(Array.fromAsync(narOf(tree))).rejects.toMatchObject({
      code: 'NIX_TREE_INVALID',
      kind: 'usage',
      message: expect.stringContaining(why),
    });
  });

  it('goes as deep as the reader does', async () => {
    expect((await Array.fromAsync(readNar(narOf(nested(63))))).filter(({ type }) => type === 'directory')).toHaveLength(
      63,
    );
  });

  it('stops waiting for a stream when it is told to', async () => {
    const stuck = async function* (): AsyncGenerator<Uint8Array, void> {
      yield new Uint8Array(1);
      await new Promise(() => undefined);
    };
    const controller = new AbortController();
    const writing = Array.fromAsync(
      narOf({ type: 'regular', contents: stuck(), size: 2 }, { signal: controller.signal }),
    );
    controller.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
  });
});

describe('dumpNar() with reuseChunks', () => {
  it('gives the same bytes, which unpackNar() takes as they come', async () => {
    await using dir = await tempDir();
    const [from, to] = [join(dir.path, 'from'), join(dir.path, 'to')];
    // Files that fill a chunk, straddle two, and span many; enough for other threads to write and hash.
    const sizes = [300_000, 0, 1, 511_999, 5_000_000, 262_144, 100, 3_000_001];
    const tree = folder(...sizes.map((size, n): [string, NarTree] => [`f${n}`, file(randomBytes(size))]));
    await unpackNar(narOf(tree), from);
    const nar = await bytesOf(dumpNar(from));
    const buffers = new Set<ArrayBufferLike>();
    const hash = createHash('sha256');
    for await (const chunk of dumpNar(from, { reuseChunks: true })) {
      buffers.add(chunk.buffer);
      hash.update(chunk);
    }
    expect(buffers.size).toBe(1);
    const narHash = narHashOf(hash.digest());
    expect(narHash).toBe(narHashOf(createHash('sha256').update(nar).digest()));
    expect(await unpackNar(dumpNar(from, { reuseChunks: true }), to)).toEqual({ narHash, narSize: nar.length });
    expect((await bytesOf(dumpNar(to))).equals(nar)).toBe(true);
    expect(await unpackNar(cut(nar, 1000), join(dir.path, 'unhashed'), { hash: false })).toEqual({
      narSize: nar.length,
    });
  });
});

describeEachNix('narOf() and nix-store', (nix) => {
  it('nix-store --restore and --dump give the NAR back', async () => {
    await using dir = await tempDir();
    const tree = folder(
      ['b', file('text', true)],
      ['a', folder([new Uint8Array([0xff, 0x0a]), { type: 'symlink', target: new Uint8Array([0xfe]) }])],
    );
    const nar = await bytesOf(narOf(tree));
    await nix.runWithInput(nar, 'nix-store', '--restore', join(dir.path, 'out'));
    expect((await nix.run('nix-store', '--dump', join(dir.path, 'out'))).equals(nar)).toBe(true);
  });
});
