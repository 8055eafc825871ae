import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readNar, unpackNar } from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { MALFORMED_NARS } from './nar-malformed.ts';
import { cut } from './nar-strings.ts';

describe('readNar()', () => {
  it.each(MALFORMED_NARS)('refuses $title, and says where', async ({ before, after, why }) => {
    const bytes = Buffer.concat([before, after]);
    const error = {
      code: 'NIX_NAR_INVALID',
      kind: 'failed',
      message: expect.stringContaining(why),
      offset: before.length,
    };
    for (const size of [undefined, 1, 11, 64]) {
      await expect(Array.fromAsync(readNar(cut(bytes, size)))).rejects.toMatchObject(error);
    }
  });
});

describe('unpackNar()', () => {
  it('leaves nothing of a malformed NAR', async () => {
    await using dir = await tempDir();
    for (const { before, after } of MALFORMED_NARS) {
      const unpacking = unpackNar(cut(Buffer.concat([before, after])), join(dir.path, 'out'));
      await expect(unpacking).rejects.toMatchObject({ code: 'NIX_NAR_INVALID' });
    }
    expect(await readdir(dir.path)).toEqual([]);
  });
});

describeEachNix('malformed NARs and nix-store', (nix) => {
  const isNew = nix.isAtLeast('2.34');

  it('are refused by both, those aside that Nix is known to take', async () => {
    await using dir = await tempDir();
    const outcomes = await Promise.all(
      MALFORMED_NARS.map(async ({ title, before, after }, index) => {
        const restoring = nix.runWithInput(
          Buffer.concat([before, after]),
          'nix-store',
          '--restore',
          join(dir.path, String(index)),
        );
        const outcome = await restoring.then(
          () => 'accepted',
          () => 'refused',
        );
        return [title, outcome];
      }),
    );
    const expected = MALFORMED_NARS.map(({ title, acceptedBy }) => [
      title,
      acceptedBy === 'any' || (acceptedBy === '2.8' && !isNew) ? 'accepted' : 'refused',
    ]);
    expect(outcomes).toEqual(expected);
  });
});
