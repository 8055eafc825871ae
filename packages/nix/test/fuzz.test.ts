/**
 * Fuzzing of the readers of what comes from caches. Here some thousand inputs; for more of them:
 *
 *     NEX_FUZZ_INPUTS=1000000 npx vitest run packages/nix/test/fuzz.test.ts
 *
 * A failure prints the smallest input found and a seed; `NEX_FUZZ_SEED=<seed>` runs the same inputs again.
 */
import { lstat, readdir, readFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  dumpNar,
  formatNarInfo,
  formatNarListing,
  type NarEvent,
  narOf,
  type NarTree,
  NixError,
  parseNarInfo,
  parseNarListing,
  readNar,
  unpackNar,
} from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { removeTree } from '../src/nar/remove-tree.ts';
import { mutatedBytes, mutatedNar, mutatedText, nearNar } from './fuzz.ts';
import { cut } from './nar-strings.ts';

const INPUTS = Number(process.env['NEX_FUZZ_INPUTS'] ?? 1500);
const SEED = process.env['NEX_FUZZ_SEED'];
const PARAMETERS = { numRuns: INPUTS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) };
const TIMEOUT = 20_000 + INPUTS * 20;
/** More than the buffers of one reader and writer; claimed lengths go far beyond. */
const MOST_MEMORY = 16 * 1024 * 1024;

const bytes = fc.oneof(
  nearNar.map(async (nar) => nar),
  mutatedNar.map(mutatedBytes),
);

/** The tree that the events tell of. */
function treeOf(events: readonly NarEvent[]): NarTree {
  const root: [Uint8Array, NarTree][] = [];
  const open = [root];
  let pieces: Buffer[] = [];
  for (const event of events) {
    if (event.type === 'directory-end') open.pop();
    else if (event.type === 'data') pieces.push(event.bytes);
    else if (event.type === 'file') {
      pieces = [];
      open.at(-1)?.push([event.name, { type: 'regular', contents: '', executable: event.executable }]);
    } else if (event.type === 'file-end') {
      const last = open.at(-1)?.at(-1);
      if (last?.[1].type === 'regular') last[1] = { ...last[1], contents: Buffer.concat(pieces) };
    } else if (event.type === 'symlink') open.at(-1)?.push([event.name, { type: 'symlink', target: event.target }]);
    else {
      const entries: [Uint8Array, NarTree][] = [];
      open.at(-1)?.push([event.name, { type: 'directory', entries }]);
      open.push(entries);
    }
  }
  const [[, tree] = []] = root;
  if (tree === undefined) throw new Error('A NAR without a root was accepted');
  return tree;
}

/** The error if it is one that the reader may throw. */
function narError(error: unknown, length: number): string {
  if (!(error instanceof NixError)) throw error;
  expect(error.code).toBe('NIX_NAR_INVALID');
  expect(error.offset).toBeGreaterThanOrEqual(0);
  expect(error.offset).toBeLessThanOrEqual(length);
  return error.message;
}

/** The NAR again, from what was read of it, or why it was refused. */
async function reread(nar: Buffer, size?: number): Promise<Buffer | string> {
  const before = process.memoryUsage().arrayBuffers;
  let events: NarEvent[];
  try {
    events = await Array.fromAsync(readNar(cut(nar, size)));
  } catch (error) {
    return narError(error, nar.length);
  } finally {
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MOST_MEMORY);
  }
  return Buffer.concat(await Array.fromAsync(narOf(treeOf(events))));
}

describe('readNar()', () => {
  it('refuses any bytes, or gives them back, however they are cut', { timeout: TIMEOUT }, async () => {
    let accepted = 0;
    let refused = 0;
    const property = fc.asyncProperty(bytes, fc.integer({ min: 2, max: 50 }), async (coming, size) => {
      const nar = await coming;
      const outcome = await reread(nar);
      expect(await reread(nar, size)).toEqual(outcome);
      expect(await reread(nar, 1)).toEqual(outcome);
      if (typeof outcome === 'string') refused++;
      else {
        accepted++;
        expect(outcome.equals(nar)).toBe(true);
      }
    });
    await fc.assert(property, PARAMETERS);
    // Else the inputs would be good for nothing.
    expect(Math.min(accepted, refused)).toBeGreaterThan(INPUTS / 20);
  });
});

describe('unpackNar()', () => {
  it('writes nothing outside its target, and leaves nothing when it refuses', { timeout: TIMEOUT }, async () => {
    await using dir = await tempDir();
    const [sentinel, inside] = [join(dir.path, 'sentinel'), join(dir.path, 'inside')];
    await mkdir(sentinel);
    await mkdir(inside);
    await writeFile(join(sentinel, 'file'), 'untouched');
    const around = async () => [
      await readdir(dir.path),
      await readdir(sentinel),
      await readFile(join(sentinel, 'file'), 'utf8'),
      (await lstat(sentinel)).mtimeMs,
      (await lstat(join(sentinel, 'file'))).mtimeMs,
    ];
    const before = await around();
    const target = join(inside, 'target');
    const property = fc.asyncProperty(bytes, async (coming) => {
      const nar = await coming;
      try {
        await unpackNar(cut(nar), target);
        expect(await readdir(inside)).toEqual(['target']);
        expect(Buffer.concat(await Array.fromAsync(dumpNar(target))).equals(nar)).toBe(true);
      } catch (error) {
        narError(error, nar.length);
        expect(await readdir(inside)).toEqual([]);
      } finally {
        await removeTree(target);
      }
      expect(await around()).toEqual(before);
    });
    // Each costs as much as four of the others.
    await fc.assert(property, { ...PARAMETERS, numRuns: Math.ceil(INPUTS / 4) });
  });
});

const NARINFO = `StorePath: /nix/store/0000000000000000000000000000000a-app-2.1
URL: nar/1111111111111111111111111111111111111111111111111111.nar.zst
Compression: zstd
FileHash: sha256:1111111111111111111111111111111111111111111111111111
FileSize: 1234
NarHash: sha256:0000000000000000000000000000000000000000000000000000
NarSize: 5678
References: 0000000000000000000000000000000a-app-2.1 0000000000000000000000000000000b-lib
Deriver: 0000000000000000000000000000000d-app-2.1.drv
Extra: something
Sig: test-1:${Buffer.alloc(64, 1).toString('base64')}
Sig: test-2:${Buffer.alloc(64, 2).toString('base64')}
CA: fixed:r:sha256:0000000000000000000000000000000000000000000000000000
`;

const LISTING = `{"version":1,
"root":{"type":"directory","entries":{
"a":{"type":"regular","size":3,"executable":true,"narOffset":400},
"b":{"type":"symlink","target":"a"},
"c":{"type":"directory","entries":{}}
}}}`;

describe.each([
  ['parseNarInfo()', 'NIX_NARINFO_INVALID', NARINFO, (text: string) => formatNarInfo(parseNarInfo(text))],
  ['parseNarListing()', 'NIX_LISTING_INVALID', LISTING, (text: string) => formatNarListing(parseNarListing(text))],
])('%s', (_, code, valid, rewrite) => {
  it('refuses any text, or writes it in a form that it reads as the same', { timeout: TIMEOUT }, () => {
    let accepted = 0;
    const property = fc.property(mutatedText(valid), (text) => {
      let written: string;
      try {
        written = rewrite(text);
      } catch (error) {
        if (!(error instanceof NixError)) throw error;
        expect(error.code).toBe(code);
        return;
      }
      accepted++;
      expect(rewrite(written)).toBe(written);
    });
    fc.assert(property, PARAMETERS);
    expect(accepted).toBeGreaterThan(INPUTS / 20);
    expect(accepted).toBeLessThan(INPUTS);
  });
});
