import { randomBytes } from 'node:crypto';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { xz } from '@napi-rs/lzma';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decompress } from './decompress.ts';

async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* parts;
}

async function undo(compression: string, ...parts: Uint8Array[]): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(decompress(chunks(...parts), compression, { origin: 'test' })));
}

function pieces(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size));
}

const CONTENT = Buffer.concat([randomBytes(200_000), Buffer.alloc(500_000), Buffer.from('abc '.repeat(50_000))]);
const CODECS: [string, (bytes: Buffer) => Buffer][] = [
  ['zstd', (bytes) => zstdCompressSync(bytes)],
  ['gzip', (bytes) => gzipSync(bytes)],
  ['br', (bytes) => brotliCompressSync(bytes, { params: { 1: 1 } })],
  ['xz', (bytes) => xz.compressSync(bytes)],
];

describe.each(CODECS)('decompress() of %s', (name, compress) => {
  const compressed = compress(CONTENT);

  it('gives the content back, however it is cut', async () => {
    expect(CONTENT.equals(await undo(name, compressed))).toBe(true);
    expect(CONTENT.equals(await undo(name, ...pieces(compressed, 777)))).toBe(true);
  });

  it('refuses what is cut off or something else', async () => {
    for (const bad of [compressed.subarray(0, -9), Buffer.from('this is something else altogether')]) {
      await expect(undo(name, bad)).rejects.toMatchObject({ code: 'NIX_COMPRESSION_INVALID' });
    }
  });

  it('passes on what the source throws', async () => {
    const broken = async function* () {
      yield compressed.subarray(0, 100);
      throw new Error('the line is dead');
    };
    const reading = Array.fromAsync(decompress(broken(), name, { origin: 'test' }));
    await expect(reading).rejects.toThrow(/^the line is dead$/);
  });

  it('closes its source when the reader leaves early', async () => {
    const closed = Promise.withResolvers<string>();
    const endless = async function* () {
      try {
        for (;;) yield compressed;
      } finally {
        closed.resolve('closed');
      }
    };
    for await (const chunk of decompress(endless(), name, { origin: 'test' })) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(await closed.promise).toBe('closed');
  });
});

it.each(CODECS.filter(([name]) => name !== 'br'))(
  'decompress() of %s reads several streams in a row',
  async (name, compress) => {
    const both = Buffer.concat([
      compress(Buffer.from('one ')),
      compress(Buffer.alloc(0)),
      compress(Buffer.from('two')),
    ]);
    expect((await undo(name, both)).toString()).toBe('one two');
  },
);

describe('decompress() of zstd', () => {
  it('reads any row of frames, skippable ones among them, cut anywhere', async () => {
    const skippable = (content: Uint8Array) => {
      const header = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
      header.writeUInt32LE(content.length, 4);
      return { bytes: Buffer.concat([header, content]), content: Buffer.alloc(0) };
    };
    const frame = (content: Uint8Array, checksum: boolean) => ({
      bytes: zstdCompressSync(content, { params: { 201: checksum ? 1 : 0 } }),
      content: Buffer.from(content),
    });
    const anyFrame = fc.oneof(
      fc.uint8Array({ maxLength: 20 }).map(skippable),
      fc.tuple(fc.uint8Array({ maxLength: 2000 }), fc.boolean()).map(([content, checksum]) => frame(content, checksum)),
      fc.nat(400_000).map((length) => frame(Buffer.alloc(length, 'ab'), true)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyFrame, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 1, max: 500 }),
        async (frames, size) => {
          const stream = Buffer.concat(frames.map(({ bytes }) => bytes));
          const wanted = Buffer.concat(frames.map(({ content }) => content));
          expect(wanted.equals(await undo('zstd', ...pieces(stream, size)))).toBe(true);
          expect(wanted.equals(await undo('zstd', stream))).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('refuses bytes after the last frame', async () => {
    const bytes = Buffer.concat([zstdCompressSync(CONTENT), Buffer.from('rest')]);
    await expect(undo('zstd', bytes)).rejects.toThrow('it is not made of zstd frames');
  });
});

describe('decompress()', () => {
  it('refuses what it cannot undo, naming what it can', () => {
    expect(() => decompress(chunks(), 'lzip', { origin: 'http://cache/x' })).toThrow(
      expect.objectContaining({
        code: 'NIX_COMPRESSION_UNSUPPORTED',
        message: 'Cannot decompress "http://cache/x": compression "lzip" is not one of none, xz, zstd, gzip, br, bzip2',
      }),
    );
  });
});
