import { describe, expect, it } from 'vitest';
import { encodeMentions, MentionPlaces } from './mentions.ts';

const HASHES = ['0', '1', 'z'].map((symbol) => symbol.repeat(32));

/** A NAR of chunks of these sizes that mentions a path at each of `starts`. */
function narOf(sizes: readonly number[], starts: readonly number[]) {
  const mentions = starts.map((start, i) => ({ start, hash: HASHES[i % HASHES.length] as string }));
  const narSize = sizes.reduce((sum, size) => sum + size, 0);
  const nar = Buffer.alloc(narSize);
  for (const { start, hash } of mentions) nar.write(hash, start, 'latin1');
  let at = 0;
  const chunks = sizes.map((size) => ({ size, start: (at += size) - size }));
  return { places: new MentionPlaces({ mentions: encodeMentions(mentions), narSize }), nar, chunks };
}

describe('MentionPlaces', () => {
  it.each([
    ['none', [100, 100], []],
    ['one within a chunk', [100, 100], [120]],
    ['at the ends of chunks', [100, 100], [0, 68, 100, 168]],
    ['divided by a cut point', [100, 100], [90]],
    ['over several small chunks', [10, 10, 10, 10, 10], [5]],
    ['one after the other', [50, 50, 50], [1, 33, 65, 97]],
    ['in the last chunk only', [10, 10, 10, 100], [60]],
  ] as const)('restores and blanks each chunk alone: %s', (_, sizes, starts) => {
    const { places, nar, chunks } = narOf(sizes, starts);
    for (const { size, start } of chunks.reverse()) {
      const inNar = Buffer.from(nar.subarray(start, start + size));
      const restored = places.restore(Buffer.alloc(size), start);
      expect(restored).toEqual(inNar);
      expect(places.isIn(start, start + size)).toBe(inNar.some((byte) => byte !== 0));
      places.blank(inNar, start);
      expect(inNar).toEqual(Buffer.alloc(size));
    }
  });

  it('leaves the bytes of a chunk as they are', () => {
    const { places } = narOf([100], [10]);
    const bytes = Buffer.alloc(100);
    expect(places.restore(bytes, 0)).not.toEqual(bytes);
    expect(bytes).toEqual(Buffer.alloc(100));
  });

  it('hands a chunk that mentions nothing on without a copy', () => {
    const { places } = narOf([100, 100], [10]);
    const bytes = Buffer.alloc(100);
    expect(places.restore(bytes, 100)).toBe(bytes);
  });

  it('refuses a chunk that has something else where a filler is to be', () => {
    const { places } = narOf([100], [10]);
    expect(() => places.restore(Buffer.alloc(100, 1), 0)).toThrow(
      new RangeError('a mention is where its chunk has no filler'),
    );
  });
});
