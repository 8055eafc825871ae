import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { xz } from '@napi-rs/lzma';
import { describeWith, findTool, startProcess } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, claimBlock } from '../threads/blocks.ts';
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

/** `bytes` in pieces of `size` that are overwritten when the next one is asked for. */
async function* recycled(bytes: Buffer, size: number): AsyncGenerator<Uint8Array, void> {
  const memory = Buffer.alloc(size);
  for (const piece of pieces(bytes, size)) {
    memory.set(piece);
    yield memory.subarray(0, piece.length);
    memory.fill(0xee);
  }
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

  it('reads a source that uses its chunks again, if told so', async () => {
    const recycling = decompress(recycled(compressed, 7777), name, { origin: 'test', reuseChunks: true });
    expect(CONTENT.equals(Buffer.concat(await Array.fromAsync(recycling, (chunk) => Buffer.from(chunk))))).toBe(true);
  });

  it('refuses what is cut off or something else', async () => {
    for (const bad of [compressed.subarray(0, -9), Buffer.from('this is something else altogether'.repeat(20_000))]) {
      await expect(undo(name, bad)).rejects.toMatchObject({ code: 'NIX_COMPRESSION_INVALID' });
      await expect(undo(name, ...pieces(bad, 10_000))).rejects.toMatchObject({ code: 'NIX_COMPRESSION_INVALID' });
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

describeWith(['bzip2'], 'decompress() of bzip2', () => {
  it('reads a source that uses its chunks again, if told so', async () => {
    const compressed = execFileSync(findTool('bzip2') ?? '', { input: CONTENT, maxBuffer: 1e9 });
    const content = decompress(recycled(compressed, 10_000), 'bzip2', { origin: 'test', reuseChunks: true });
    expect(CONTENT.equals(Buffer.concat(await Array.fromAsync(content)))).toBe(true);
  });
});

const LARGE = Buffer.concat([randomBytes(2_000_000), Buffer.alloc(3_000_000), randomBytes(1_000_000)]);

describe.each(CODECS.filter(([name]) => name !== 'xz'))(
  'decompress() of large %s, using chunks again',
  (name, compress) => {
    const compressed = compress(LARGE);
    const open = (source: AsyncIterable<Uint8Array>) => decompress(source, name, { origin: 'test', reuseChunks: true });
    const read = async (source: AsyncIterable<Uint8Array>) => {
      const copies: Buffer[] = [];
      for await (const chunk of open(source)) copies.push(Buffer.from(chunk));
      return Buffer.concat(copies);
    };

    it('gives the content back, however it is cut, from a source that uses its chunks again too', async () => {
      for (const size of [7777, 524_288, compressed.length])
        expect(LARGE.equals(await read(recycled(compressed, size)))).toBe(true);
    });

    it('uses the memory of a chunk again, unless its block was claimed', async () => {
      const memories = new Set<ArrayBufferLike>();
      for (let count = 0; count < 3; count++) {
        for await (const chunk of open(chunks(compressed))) memories.add(chunk.buffer);
      }
      expect(memories.size).toBeLessThan((3 * LARGE.length) / BLOCK_SIZE);
      const claimed: Buffer[] = [];
      for await (const chunk of open(chunks(compressed))) {
        expect(claimBlock(chunk)).toBe(chunk.buffer);
        claimed.push(Buffer.from(chunk.buffer, 0, chunk.length));
      }
      expect(LARGE.equals(Buffer.concat(claimed))).toBe(true);
    });

    it('decompresses several at a time', async () => {
      const contents = await Promise.all(Array.from({ length: 6 }, async () => read(chunks(compressed))));
      expect(contents.every((content) => LARGE.equals(content))).toBe(true);
    });

    it('refuses what is cut off or damaged', async () => {
      const damaged = Buffer.from(compressed).fill(0xff, 1_900_000, 2_300_000);
      for (const bad of [compressed.subarray(0, -9), damaged]) {
        await expect(read(chunks(bad))).rejects.toMatchObject({
          code: 'NIX_COMPRESSION_INVALID',
          message: expect.stringMatching(/^Cannot decompress "test": ./),
        });
      }
    });

    it('passes on what the source throws', async () => {
      const broken = async function* () {
        yield compressed.subarray(0, 1_000_000);
        throw new Error('the line is dead');
      };
      await expect(read(broken())).rejects.toThrow(/^the line is dead$/);
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
      for await (const chunk of open(endless())) {
        expect(chunk.length).toBeGreaterThan(0);
        break;
      }
      expect(await closed.promise).toBe('closed');
    });
  },
);

describe('decompress() of large zstd, using chunks again', () => {
  const open = (source: AsyncIterable<Uint8Array>) => decompress(source, 'zstd', { origin: 'test', reuseChunks: true });

  it('reads many frames, skippable ones among them, cut anywhere', async () => {
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const contents = Array.from({ length: 60 }, (_, n) => randomBytes(n % 2 === 0 ? 50_000 : n));
    const stream = Buffer.concat(contents.flatMap((content) => [zstdCompressSync(content), skippable]));
    for (const size of [10_000, 99_999, stream.length]) {
      const copies: Buffer[] = [];
      for await (const chunk of open(chunks(...pieces(stream, size)))) copies.push(Buffer.from(chunk));
      expect(Buffer.concat(contents).equals(Buffer.concat(copies))).toBe(true);
    }
    const read = Array.fromAsync(open(chunks(stream, Buffer.from('rest'))), (chunk) => chunk.length);
    await expect(read).rejects.toThrow('it is not made of zstd frames');
  });

  it('is at most some blocks ahead of its reader', async () => {
    const frame = zstdCompressSync(randomBytes(BLOCK_SIZE));
    let ahead = 0;
    const endless = async function* () {
      for (;;) {
        ahead += BLOCK_SIZE;
        yield frame;
      }
    };
    let most = 0;
    let count = 0;
    for await (const chunk of open(endless())) {
      ahead -= chunk.length;
      most = Math.max(most, ahead);
      if (++count === 100) break;
    }
    expect(most).toBeLessThan(12 * BLOCK_SIZE);
  });

  it('keeps the process alive until it is done or left, and no longer', async () => {
    const code = `
      import { randomBytes } from 'node:crypto';
      import { zstdCompressSync } from 'node:zlib';
      import { decompress } from './decompress.ts';
      const bytes = zstdCompressSync(randomBytes(3_000_000));
      const open = () => decompress((async function* () { yield bytes; })(), 'zstd', { origin: 'x', reuseChunks: true });
      for await (const chunk of open()) { console.log(chunk.length > 0); break; }
      let size = 0;
      for await (const chunk of open()) size += chunk.length;
      console.log(size);`;
    await using child = startProcess(
      process.execPath,
      ['--conditions=nexsrc', '--input-type=module-typescript', '-e', code],
      { cwd: import.meta.dirname },
    );
    expect(await child.exited, child.output()).toEqual({ code: 0, signal: null });
    expect(child.stdout()).toBe('true\n3000000\n');
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
