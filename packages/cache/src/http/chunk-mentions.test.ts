import { narHashOf } from '@nex-nix/nix';
import { describe, expect, it } from 'vitest';
import { chunkIdOf } from '../chunk-id.ts';
import { encodeMentions } from '../mentions.ts';
import { chunkMentions, restoreMentions } from './chunk-mentions.ts';

const HASHES = ['0', '1', 'z'].map((symbol) => symbol.repeat(32));

/** A NAR of these chunk sizes that mentions a path at each of `starts`. */
function manifestOf(sizes: readonly number[], starts: readonly number[]) {
  const places = starts.map((start, i) => ({ start, hash: HASHES[i % HASHES.length] as string }));
  const chunks = sizes.map((size) => ({ id: chunkIdOf(Buffer.alloc(size)), size }));
  const narSize = sizes.reduce((sum, size) => sum + size, 0);
  const nar = Buffer.alloc(narSize);
  for (const { start, hash } of places) nar.write(hash, start, 'latin1');
  const manifest = { narHash: narHashOf(Buffer.alloc(32)), narSize, chunks, mentions: encodeMentions(places) };
  return { manifest, nar };
}

describe('chunkMentions()', () => {
  it.each([
    ['none', [100, 100], []],
    ['one within a chunk', [100, 100], [120]],
    ['at the ends of chunks', [100, 100], [0, 68, 100, 168]],
    ['divided by a cut point', [100, 100], [90]],
    ['over several small chunks', [10, 10, 10, 10, 10], [5]],
    ['one after the other', [50, 50, 50], [1, 33, 65, 97]],
    ['in the last chunk only', [10, 10, 10, 100], [60]],
  ] as const)('restores each chunk alone: %s', (_, sizes, starts) => {
    const { manifest, nar } = manifestOf(sizes, starts);
    const byChunk = chunkMentions(manifest)();
    const restored = sizes.map((size, index) => restoreMentions(Buffer.alloc(size), byChunk.get(index)));
    expect(Buffer.concat(restored).equals(nar)).toBe(true);
  });

  it('leaves the bytes of a chunk as they are', () => {
    const { manifest } = manifestOf([100], [10]);
    const bytes = Buffer.alloc(100);
    restoreMentions(bytes, chunkMentions(manifest)().get(0));
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('refuses a chunk that has something else where a filler is to be', () => {
    const { manifest } = manifestOf([100], [10]);
    expect(() => restoreMentions(Buffer.alloc(100, 1), chunkMentions(manifest)().get(0))).toThrow(RangeError);
  });
});
