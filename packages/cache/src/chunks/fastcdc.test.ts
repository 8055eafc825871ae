import { createCipheriv, createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutChunks, MAX_CHUNK_SIZE, MIN_CHUNK_SIZE } from './fastcdc.ts';
import { GEAR } from './gear.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The same pseudo-random bytes for the same seed: AES-128-CTR of zeros. */
function noise(length: number, seed = 1): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

async function* split(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function cut(bytes: Uint8Array, sizes: readonly number[] = [256 * 1024]): Promise<Uint8Array[]> {
  return Array.fromAsync(cutChunks(split(bytes, sizes)));
}

const PINNED = {
  firstWord: -1140601382,
  table: 'ed002ad7178c14f93f30136d45d7c4a799c830ad7c113e11ee8b75964caa5eff',
  noise: [
    270736, 68959, 117901, 270315, 366731, 347004, 341259, 267244, 530571, 266592, 144862, 109537, 354283, 314929,
    256448, 309898, 328092, 328351, 220522, 274059, 270623, 131187, 276442, 217818, 309487, 293209, 359650, 316829,
    284867, 280764, 159439,
  ],
};

describe('the cut points are a storage format', () => {
  it('gear table', () => {
    expect(GEAR[0]).toBe(PINNED.firstWord);
    expect(sha256(Buffer.from(GEAR.buffer))).toBe(PINNED.table);
  });

  it('8 MiB of noise', async () => {
    const chunks = await cut(noise(8 << 20));
    expect(chunks.map((chunk) => chunk.length)).toEqual(PINNED.noise);
  });

  it('zeros are cut at the maximum, an empty stream has no chunk, a small one has one', async () => {
    const zeros = await cut(Buffer.alloc(3 * MAX_CHUNK_SIZE + 7));
    expect(zeros.map((chunk) => chunk.length)).toEqual([MAX_CHUNK_SIZE, MAX_CHUNK_SIZE, MAX_CHUNK_SIZE, 7]);
    expect(await cut(Buffer.alloc(0))).toEqual([]);
    expect((await cut(noise(MIN_CHUNK_SIZE))).length).toBe(1);
  });
});

describe('cutChunks', () => {
  it('gives the same chunks however the stream is split, within the bounds, and loses nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 3 << 20 }),
        fc.integer({ min: 0, max: 255 }),
        fc.array(fc.integer({ min: 1000, max: 2 << 20 }), { minLength: 1, maxLength: 5 }),
        async (length, seed, sizes) => {
          const input = noise(length, seed);
          const chunks = await cut(input, sizes);
          expect(Buffer.concat(chunks).equals(input)).toBe(true);
          expect(chunks.map((chunk) => chunk.length)).toEqual((await cut(input)).map((chunk) => chunk.length));
          for (const [i, chunk] of chunks.entries()) {
            expect(chunk.length).toBeLessThanOrEqual(MAX_CHUNK_SIZE);
            if (i < chunks.length - 1) expect(chunk.length).toBeGreaterThanOrEqual(MIN_CHUNK_SIZE);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('keeps nearly all chunks when bytes are inserted', async () => {
    const before = noise(16 << 20, 3);
    const after = Buffer.concat([before.subarray(0, 5_000_001), Buffer.from('inserted'), before.subarray(5_000_001)]);
    const known = new Set((await cut(before)).map(sha256));
    const chunks = await cut(after);
    expect(chunks.length).toBeGreaterThan(30);
    expect(chunks.filter((chunk) => !known.has(sha256(chunk))).length).toBeLessThanOrEqual(3);
  });
});
