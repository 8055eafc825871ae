import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { UserIdClaims } from './user-id-claims.ts';
import { parseIdMap } from './user-ids.ts';

const ALL = parseIdMap('0 0 4294967295\n');

/** Few enough that sandboxes meet: eight pairs. */
const FEW = parseIdMap('0 100000 32\n');

async function setUp(count: number) {
  const dir = await tempDir('nex-ids-');
  const folders = Array.from({ length: count }, (_, index) => join(dir.path, `sandbox-${index}`));
  for (const folder of folders) await mkdir(folder);
  const claims = join(dir.path, 'claims');
  return { folders, claims, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

describe('UserIdClaims', () => {
  it('gives no two sandboxes the same ids, whatever process they are of, though their hashes meet', async () => {
    await using bed = await setUp(8);
    const [one, two] = [new UserIdClaims(bed.claims), new UserIdClaims(bed.claims)];
    const ids = await Promise.all(bed.folders.map((folder, index) => (index % 2 ? one : two).claim(FEW, folder)));
    expect(new Set(ids.flatMap(({ root, user }) => [root, user])).size).toBe(16);
  });

  it('gives a sandbox the same ids again', async () => {
    await using bed = await setUp(1);
    const [folder = ''] = bed.folders;
    const ids = await new UserIdClaims(bed.claims).claim(ALL, folder);
    expect(await new UserIdClaims(bed.claims).claim(ALL, folder)).toEqual(ids);
    expect(await readdir(bed.claims)).toEqual([String(ids.root)]);
  });

  it('forgets the sandboxes that are gone, and only these', async () => {
    await using bed = await setUp(2);
    const [gone = '', kept = ''] = bed.folders;
    const claims = new UserIdClaims(bed.claims);
    await claims.claim(ALL, gone);
    const { root } = await claims.claim(ALL, kept);
    await rm(gone, { recursive: true });
    await claims.sweep();
    expect(await readdir(bed.claims)).toEqual([String(root)]);
  });
});
