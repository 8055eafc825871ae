import { randomBytes } from 'node:crypto';
import { afterAll, describe, expect, it } from 'vitest';
import { MAX_CHUNK_SIZE } from './fastcdc.ts';
import { Compressor, decompress } from './zstd.ts';

describe('zstd', () => {
  const compressor = new Compressor();
  afterAll(() => compressor[Symbol.dispose]());

  it.each([0, 1, 63, 64, 100_000])('gives %i bytes back', async (size) => {
    const bytes = Buffer.alloc(size, 'nex');
    expect(Buffer.from(await decompress(await compressor.compress(bytes), size)).equals(bytes)).toBe(true);
  });

  it('makes whole frames one after the other and several at once, also of what does not shrink', async () => {
    const sizes = [MAX_CHUNK_SIZE, 1, 700_000, 100_000, MAX_CHUNK_SIZE, 300_000, 65_536, 2, 900_000];
    const chunks = sizes.flatMap((size) => [randomBytes(size), Buffer.alloc(size, 'nex')]);
    const frames = await Promise.all(chunks.map(async (chunk) => compressor.compress(chunk)));
    for (const [i, chunk] of chunks.entries()) {
      const alone = await compressor.compress(chunk);
      for (const frame of [frames[i] ?? Buffer.alloc(0), alone]) {
        expect(Buffer.from(await decompress(frame, chunk.length)).equals(chunk)).toBe(true);
      }
    }
  });

  it('refuses to work when it is disposed of', async () => {
    const ended = new Compressor();
    await ended.compress(Buffer.from('x'));
    ended[Symbol.dispose]();
    await expect(ended.compress(Buffer.from('x'))).rejects.toThrow('destroyed');
  });

  it('stops a frame that holds more than it should', async () => {
    const bomb = await compressor.compress(Buffer.alloc(MAX_CHUNK_SIZE));
    await expect(decompress(bomb, 1000)).rejects.toThrow(RangeError);
  });

  it('rejects what is no frame, or is cut off', async () => {
    await expect(decompress(Buffer.from('no frame'), 100)).rejects.toThrow(Error);
    const frame = await compressor.compress(Buffer.from('some text, some text, some text'));
    await expect(decompress(frame.subarray(0, -3), 100)).rejects.toThrow(Error);
  });
});
