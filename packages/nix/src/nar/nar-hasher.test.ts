import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { startProcess, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { narHashOf } from '../formats/hash.ts';
import { BLOCK_SIZE, claimBlock, copyToBlock, lendBlock, returnBlock, takeBlock } from '../threads/blocks.ts';
import { BlockWriter } from './block-writer.ts';
import { NarHasher } from './nar-hasher.ts';

const RANDOM = randomBytes(12 * BLOCK_SIZE + 1);

/** The hash of `bytes` given in pieces of `size` through memory that changes right after each. */
async function hashOf(bytes: Uint8Array, size: number): Promise<string> {
  using hasher = new NarHasher();
  const blocks = new BlockWriter((block, length) => hasher.write(block, length));
  const piece = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    piece.set(part);
    await blocks.write(piece.subarray(0, part.length));
    piece.fill(0xee);
  }
  blocks.flush();
  return await hasher.digest();
}

/** Pieces of `bytes` of ever other sizes, every second one lent; whatever is not claimed is overwritten when the next is asked for. */
async function* mixed(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  for (let at = 0, count = 0; at < bytes.length; count++) {
    const size = [BLOCK_SIZE, 1, 300_000, BLOCK_SIZE - 1][count % 4] ?? 1;
    const part = bytes.subarray(at, at + size);
    at += part.length;
    const block = takeBlock();
    copyToBlock(part, block, 0);
    const chunk = count % 2 === 0 ? lendBlock(block, part.length) : Buffer.from(block, 0, part.length);
    yield chunk;
    if (count % 2 === 0 && claimBlock(chunk) === undefined) continue;
    Buffer.from(block).fill(0xee);
    returnBlock(block);
  }
}

const expected = (bytes: Uint8Array) => narHashOf(createHash('sha256').update(bytes).digest());

describe('NarHasher', () => {
  it('gives the hash for any size, here or in another thread', async () => {
    const blocks = [0, 1, 4, 5, 6, 12].flatMap((count) => [count * BLOCK_SIZE, count * BLOCK_SIZE + 1]);
    for (const length of [1, 100, ...blocks]) {
      const bytes = RANDOM.subarray(0, length);
      for (const size of [65_536, 1_000_000])
        expect([length, await hashOf(bytes, size)]).toEqual([length, expected(bytes)]);
    }
  });

  it('passes on what it hashes, whatever the pieces', async () => {
    for (const length of [0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, RANDOM.length]) {
      const bytes = RANDOM.subarray(0, length);
      const source = async function* () {
        const piece = Buffer.alloc(100_000);
        for (let at = 0; at < length; at += piece.length) {
          const part = bytes.subarray(at, at + piece.length);
          piece.set(part);
          yield piece.subarray(0, part.length);
          piece.fill(0xee);
        }
      };
      using hasher = new NarHasher();
      const passed = createHash('sha256');
      for await (const block of hasher.hashed(source())) passed.update(block);
      expect([length, narHashOf(passed.digest())]).toEqual([length, expected(bytes)]);
      expect([length, await hasher.digest()]).toEqual([length, expected(bytes)]);
    }
  });

  it('takes over the blocks that it is lent, between other pieces', async () => {
    using first = new NarHasher();
    const blocks = new BlockWriter((block, length) => first.write(block, length));
    for await (const piece of mixed(RANDOM)) await blocks.write(piece);
    blocks.flush();
    expect(await first.digest()).toBe(expected(RANDOM));

    using second = new NarHasher();
    const passed = createHash('sha256');
    for await (const block of second.hashed(mixed(RANDOM))) passed.update(block);
    expect([narHashOf(passed.digest()), await second.digest()]).toEqual([expected(RANDOM), expected(RANDOM)]);
  });

  it('gives the hash of each of several at a time', async () => {
    const parts = Array.from({ length: 8 }, (_, n) => RANDOM.subarray(n, RANDOM.length - n * 100_000));
    expect(await Promise.all(parts.map((part) => hashOf(part, 70_000)))).toEqual(parts.map(expected));
  });

  it('keeps the process alive until it is done or given up, and no longer', async () => {
    await using dir = await tempDir();
    const code = `
      import { narOf, unpackNar } from '@nex-nix/nix';
      const size = 20_000_000;
      const tree = (length) => ({ type: 'regular', size, contents: (async function* () { yield Buffer.alloc(length); })() });
      await unpackNar(narOf(tree(size - 1)), ${JSON.stringify(join(dir.path, 'a'))}).catch(({ code }) => console.log(code));
      console.log((await unpackNar(narOf(tree(size)), ${JSON.stringify(join(dir.path, 'b'))})).narSize);`;
    await using child = startProcess(process.execPath, ['--conditions=nexsrc', '--input-type=module', '-e', code], {
      cwd: import.meta.dirname,
    });
    expect(await child.exited, child.output()).toEqual({ code: 0, signal: null });
    expect(child.stdout()).toBe('NIX_TREE_INVALID\n20000112\n');
  });
});
