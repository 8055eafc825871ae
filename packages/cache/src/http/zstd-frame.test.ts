import { randomBytes } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { rawFrame } from './zstd-frame.ts';

describe('rawFrame()', () => {
  it.each([1, 100, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1020 * 1024])('holds %i bytes', (size) => {
    const bytes = randomBytes(size);
    const frame = rawFrame(bytes);
    expect(zstdDecompressSync(frame).equals(bytes)).toBe(true);
    expect(frame.length - size).toBe(9 + 3 * Math.ceil(size / (128 * 1024)));
  });
});
