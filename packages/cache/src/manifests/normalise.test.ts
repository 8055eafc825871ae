import { createCipheriv } from 'node:crypto';
import { encodeNixBase32, narHashOf, storePathFromBaseName, type StorePath, storePathHash } from '@nex-nix/nix';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunkIdOf } from '../chunks/chunk-id.ts';
import { cutChunks } from '../chunks/fastcdc.ts';
import { HASH_PART_SIZE, HashScanner } from './hash-scanner.ts';
import { decodeManifest, encodeManifest, type Manifest } from './manifest.ts';
import { decodeMentions, MentionPlaces } from './mentions.ts';
import { Normaliser } from './normalise.ts';

const narHash = narHashOf(new Uint8Array(32));

function pathOf(hash: Uint8Array, name = 'x'): StorePath {
  return storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`);
}

async function* split(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** The manifest and the chunks of a NAR, as a push makes them. */
async function normalised(
  nar: Uint8Array,
  paths: readonly StorePath[],
  { sizes = [65_536], max }: { sizes?: readonly number[]; max?: number } = {},
): Promise<{ manifest: Manifest; chunks: Uint8Array[] }> {
  const [storePath = pathOf(new Uint8Array(20)), ...references] = paths;
  const normaliser = new Normaliser({ storePath, references }, max);
  const chunks = await Array.fromAsync(cutChunks(normaliser.normalise(split(nar, sizes))));
  const refs = chunks.map((bytes) => ({ id: chunkIdOf(bytes), size: bytes.length }));
  const manifest = { narHash, narSize: nar.length, chunks: refs, mentions: normaliser.mentions() };
  return { manifest: decodeManifest(encodeManifest(manifest), 'test'), chunks };
}

function restored(manifest: Manifest, chunks: readonly Uint8Array[]): Buffer {
  const places = new MentionPlaces(manifest);
  let at = 0;
  return Buffer.concat(chunks.map((bytes) => places.restore(bytes, (at += bytes.length) - bytes.length)));
}

const hashes = fc.uniqueArray(fc.uint8Array({ minLength: 20, maxLength: 20 }), {
  minLength: 1,
  maxLength: 5,
  comparator: (a, b) => Buffer.compare(a, b) === 0,
});
/** What a NAR is made of: numbers stand for paths, arrays for other bytes, true for the filler. */
const parts = fc.array(
  fc.oneof(
    fc.nat({ max: 4 }),
    fc.uint8Array({ maxLength: 70 }),
    fc.constant(true as const),
    fc.string({ unit: fc.constantFrom('0', '7', 'a', 'b', 'z'), maxLength: 40 }),
  ),
  { maxLength: 40 },
);

function assemble(
  content: typeof parts extends fc.Arbitrary<infer T> ? T : never,
  paths: readonly StorePath[],
): Buffer {
  return Buffer.concat(
    content.map((part) => {
      if (part === true) return Buffer.alloc(HASH_PART_SIZE);
      if (typeof part === 'string') return Buffer.from(part);
      if (typeof part === 'number') return Buffer.from(storePathHash(paths[part % paths.length] as StorePath));
      return Buffer.from(part);
    }),
  );
}

describe('HashScanner', () => {
  it('finds what a plain search finds', () => {
    fc.assert(
      fc.property(hashes, parts, (raw, content) => {
        const paths = raw.map((hash) => pathOf(hash));
        const bytes = assemble(content, paths);
        const scanner = new HashScanner(paths.map(storePathHash));
        const found: string[] = [];
        for (let at = scanner.find(bytes, 0); at !== -1; at = scanner.find(bytes, at + 1)) {
          found.push(`${at} ${storePathHash(paths[scanner.index] as StorePath)}`);
        }
        const wanted = paths
          .map(storePathHash)
          .flatMap((hash) =>
            [...bytes.toString('latin1').matchAll(new RegExp(`(?=${hash})`, 'g'))].map((match) => ({
              hash,
              at: match.index,
            })),
          )
          .sort((a, b) => a.at - b.at)
          .map(({ hash, at }) => `${at} ${hash}`);
        expect(found).toEqual(wanted);
      }),
    );
  });
});

describe('Normaliser', () => {
  it('makes chunks that become the same bytes again, however the NAR is split', async () => {
    await fc.assert(
      fc.asyncProperty(
        hashes,
        parts,
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 6 }),
        fc.option(fc.nat({ max: 5 }), { nil: undefined }),
        async (raw, content, sizes, max) => {
          const paths = raw.map((hash) => pathOf(hash));
          const nar = assemble(content, paths);
          const before = Buffer.from(nar);
          const whole = await normalised(nar, paths, max === undefined ? {} : { max });
          const pieces = await normalised(nar, paths, { sizes, ...(max === undefined ? {} : { max }) });
          expect(nar).toEqual(before);
          expect(pieces.manifest).toEqual(whole.manifest);
          expect(restored(pieces.manifest, pieces.chunks)).toEqual(nar);
          const inBits = await Array.fromAsync(split(Buffer.concat(pieces.chunks), sizes));
          expect(restored(pieces.manifest, inBits)).toEqual(nar);
          if (max === undefined) {
            const text = Buffer.concat(pieces.chunks).toString('latin1');
            for (const path of paths) expect(text).not.toContain(storePathHash(path));
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('makes the same chunks of builds that differ in hashes only', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 1 << 20 }),
        fc.array(fc.tuple(fc.nat({ max: 1 << 20 }), fc.nat({ max: 2 })), { maxLength: 200 }),
        async (seed, size, places) => {
          const build = async (generation: number) => {
            const paths = [0, 1, 2].map((i) => pathOf(noise(20, 10 * generation + i)));
            const nar = noise(size, seed);
            for (const [at, which] of places)
              nar.write(storePathHash(paths[which] as StorePath), at % (size + 1), 'latin1');
            // What a later mention overwrote would differ between the builds.
            return { nar, ...(await normalised(nar, paths, { sizes: [100_000 + generation] })) };
          };
          fc.pre(
            areApart(
              places.map(([at]) => at % (size + 1)),
              size,
            ),
          );
          const [first, second] = [await build(0), await build(1)];
          expect(second.manifest.chunks).toEqual(first.manifest.chunks);
          if (places.length > 0) expect(second.nar.equals(first.nar)).toBe(false);
          expect(restored(second.manifest, second.chunks).equals(second.nar)).toBe(true);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('leaves alone what comes after the most mentions that a table may have', async () => {
    const path = pathOf(Buffer.alloc(20, 1));
    const nar = Buffer.from(storePathHash(path).repeat(5));
    const { manifest, chunks } = await normalised(nar, [path], { max: 3 });
    expect(manifest.mentions?.count).toBe(3);
    expect(Buffer.concat(chunks).indexOf(storePathHash(path))).toBe(3 * HASH_PART_SIZE);
    expect(restored(manifest, chunks)).toEqual(nar);
  });

  it('keeps a manifest as it was when nothing is mentioned', async () => {
    const { manifest } = await normalised(Buffer.from('hello'), [pathOf(Buffer.alloc(20, 1))]);
    expect(manifest).not.toHaveProperty('mentions');
  });
});

describe('decodeMentions()', () => {
  const [hash] = [storePathHash(pathOf(Buffer.alloc(20, 1)))];
  const decode = (table: readonly number[], count = 1) => [
    ...decodeMentions({ hashes: [hash], count, table: Uint8Array.from(table) }, 100),
  ];

  it('reads places in order', () => {
    expect(decode([5, 0, 0x1f, 0], 2)).toEqual([
      { start: 5, hash },
      { start: 68, hash },
    ]);
  });

  it.each([
    ['nothing', [], 1, 'a mention is cut off'],
    ['half a number', [0x80], 1, 'a mention is cut off'],
    ['a path that is not listed', [0, 1], 1, 'a mention is of a path that it does not list'],
    ['a place beyond the end', [69, 0], 1, 'a mention lies beyond the end of the NAR'],
    ['a huge number', [...Array<number>(20).fill(0xff), 1, 0], 1, 'a mention lies beyond the end of the NAR'],
    ['a number that is longer than it needs to be', [0x85, 0, 0], 1, 'a mention has a number with zeros before it'],
    ['more than it counts', [0, 0, 0, 0], 1, 'a mention more than it counts is in its table'],
  ])('rejects %s', (_what, table, count, why) => {
    expect(() => decode(table, count)).toThrow(new RangeError(why));
  });
});

describe('decodeManifest() with mentions', () => {
  const [low, high] = [1, 2].map((i) => storePathHash(pathOf(Buffer.alloc(20, i)))).sort() as [string, string];
  const chunk = { id: chunkIdOf(Buffer.alloc(64)), size: 64 };
  const manifest = {
    narHash,
    narSize: 64,
    chunks: [chunk],
    mentions: { hashes: [low, high], count: 1, table: Uint8Array.of(0, 0) },
  };
  const withMentions = (change: object) =>
    encodeManifest({ ...manifest, mentions: { ...manifest.mentions, ...change } });

  it('is a storage format', () => {
    const encoded = Buffer.from(encodeManifest(manifest)).toString('latin1');
    expect(encoded.slice(0, encoded.indexOf('\n'))).toBe(
      '{"v":1,"narHash":"sha256:0000000000000000000000000000000000000000000000000000","narSize":64,' +
        `"algo":"fastcdc-64-256-1020-gear1","norm":1,"chunks":1,"hashes":["${low}","${high}"],"mentions":1}`,
    );
    expect(encoded.slice(-6)).toBe('\x40\0\0\0\0\0');
  });

  it.each([
    ['no mention', { count: 0, table: new Uint8Array() }, 'it counts 0 mentions, 1 to 65536 are allowed'],
    ['too many', { count: 1e6 }, 'it counts 1000000 mentions, 1 to 65536 are allowed'],
    ['what is no hash part', { hashes: ['x'] }, 'what it mentions are not the hash parts of store paths'],
    ['no list', { hashes: low }, 'what it mentions are not the hash parts of store paths'],
    ['paths out of order', { hashes: [high, low] }, 'the paths that it mentions are not in order'],
    ['a path twice', { hashes: [low, low] }, 'the paths that it mentions are not in order'],
    ['a table that makes no sense', { table: Uint8Array.of(33, 0) }, 'a mention lies beyond the end of the NAR'],
    ['a table that is cut off', { table: Uint8Array.of(0) }, 'a mention is cut off'],
  ])('rejects %s', (_what, change, why) => {
    expect(() => decodeManifest(withMentions(change), '/nix/store/x')).toThrow(
      expect.objectContaining({
        code: 'CACHE_MANIFEST_INVALID',
        message: `Cannot read the manifest of "/nix/store/x": ${why}`,
      }),
    );
  });
});

function noise(length: number, seed = 1): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Whether mentions at these places do not overlap, and end before `size`. */
function areApart(places: readonly number[], size: number): boolean {
  const sorted = [...places].sort((a, b) => a - b);
  return sorted.every((at, i) => at + HASH_PART_SIZE <= (sorted[i + 1] ?? size));
}
