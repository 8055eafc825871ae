import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dumpNar, NarRanges } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

type Tree = { file: Uint8Array; executable: boolean } | { target: string } | { entries: (readonly [string, Tree])[] };

const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    fc.record({ file: fc.uint8Array({ maxLength: 300 }), executable: fc.boolean() }),
    fc.stringMatching(/^[^\0]{1,30}$/).map((target) => ({ target })),
    fc
      .uniqueArray(fc.tuple(fc.stringMatching(/^[a-z.-]{3,9}$/), tie('tree')), {
        selector: ([name]) => name,
        maxLength: 6,
      })
      .map((entries) => ({ entries })),
  ),
}));

async function write(path: string, node: Tree): Promise<void> {
  if ('file' in node) await writeFile(path, node.file, { mode: node.executable ? 0o755 : 0o644 });
  else if ('target' in node) await symlink(node.target, path);
  else {
    await mkdir(path);
    for (const [name, child] of node.entries) await write(join(path, name), child);
  }
}

async function dump(path: string): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(dumpNar(path)));
}

describe('NarRanges', () => {
  it('reads every range of every tree as dumpNar() writes it', async () => {
    await using dir = await tempDir();
    let run = 0;
    const ranges = fc.array(fc.tuple(fc.nat(1000), fc.nat(1000)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(tree, ranges, async (node, thousandths) => {
        const path = join(dir.path, `tree${++run}`);
        await write(path, node);
        const nar = await dump(path);
        const reader = new NarRanges(path);
        // At once: walks and reads of several ranges mix.
        await Promise.all(
          thousandths.map(async (ends) => {
            const [start = 0, end = 0] = ends.map((end) => Math.round((end / 1000) * nar.length)).sort((a, b) => a - b);
            const range = await reader.read(start, end - start);
            expect(range?.length === end - start && nar.subarray(start, end).equals(range)).toBe(true);
          }),
        );
        expect(await reader.read(nar.length - 1, 2)).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });

  it('reads ranges over the ends of large files, and where there are many small things', async () => {
    await using dir = await tempDir();
    const path = join(dir.path, 'tree');
    await mkdir(join(path, 'sub'), { recursive: true });
    await writeFile(join(path, 'large'), randomBytes(3_000_001));
    await writeFile(join(path, 'zlast'), randomBytes(700_000));
    await chmod(join(path, 'large'), 0o555);
    for (let i = 0; i < 2500; i++) await symlink('x'.repeat(200), join(path, `sub/${i}`));
    const nar = await dump(path);
    const reader = new NarRanges(path);
    for (let start = 0; start < nar.length; start += 333_333) {
      const range = nar.subarray(start, start + 333_333);
      expect(range.equals((await reader.read(start, range.length)) ?? new Uint8Array())).toBe(true);
    }
    expect(range(await reader.read(0, 100))).toEqual(range(nar.subarray(0, 100)));
  });

  it('remembers a bounded number of pieces: what lies further back is not read', async () => {
    await using dir = await tempDir();
    for (let i = 0; i < 200; i++) await writeFile(join(dir.path, String(i)), `contents ${i}`);
    const nar = await dump(dir.path);
    const reader = new NarRanges(dir.path, { maxPieces: 40 });
    for (let start = 0; start + 500 < nar.length; start += 500) {
      expect(range(await reader.read(start, 500))).toEqual(range(nar.subarray(start, start + 500)));
    }
    expect(await reader.read(0, 500)).toBeUndefined();
    const last = nar.length - 500;
    expect(range(await reader.read(last, 500))).toEqual(range(nar.subarray(last)));
  });

  it('says what cannot be read', async () => {
    await using dir = await tempDir();
    const absent = new NarRanges(join(dir.path, 'absent'));
    await expect(absent.read(0, 10)).rejects.toMatchObject({ name: 'NixError', code: 'NIX_DUMP_FAILED' });
    expect(await absent.read(0, 10)).toBeUndefined();

    const [shorter, gone] = [join(dir.path, 'shorter'), join(dir.path, 'gone')];
    for (const file of [shorter, gone]) await writeFile(file, randomBytes(1000));
    const readers = [new NarRanges(shorter), new NarRanges(gone)];
    for (const reader of readers) await reader.read(0, 1000);
    await truncate(shorter, 10);
    await rm(gone);
    for (const reader of readers) await expect(reader.read(0, 1000)).rejects.toMatchObject({ code: 'NIX_DUMP_FAILED' });
  });
});

function range(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1');
}
