import { describe, expect, it } from 'vitest';
import { compress, decompress } from './zstd.ts';

describe('zstd', () => {
  it.each([0, 1, 63, 64, 100_000])('gives %i bytes back', async (size) => {
    const bytes = Buffer.alloc(size, 'nex');
    expect(Buffer.from(await decompress(await compress(bytes), size)).equals(bytes)).toBe(true);
  });

  it('stops a frame that holds more than it should', async () => {
    const bomb = await compress(Buffer.alloc(10 << 20));
    await expect(decompress(bomb, 1000)).rejects.toThrow(RangeError);
  });

  it('rejects what is no frame, or is cut off', async () => {
    await expect(decompress(Buffer.from('no frame'), 100)).rejects.toThrow(Error);
    const frame = await compress(Buffer.from('some text, some text, some text'));
    await expect(decompress(frame.subarray(0, -3), 100)).rejects.toThrow(Error);
  });
});
