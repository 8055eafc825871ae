import { waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import type { NarInfo } from '../formats/path-info.ts';
import { storePathFromBaseName } from '../formats/store-path.ts';
import { NarInfoCache } from './narinfo-cache.ts';

const path = (index: number) => storePathFromBaseName(`${'0'.repeat(32)}-${index}`);
const info = { url: 'nar/x' } as NarInfo;

describe('NarInfoCache', () => {
  it('forgets each kind of answer after its own time', async () => {
    const cache = new NarInfoCache({ positive: 60_000, negative: 20 });
    cache.set(path(1), info);
    cache.set(path(2), undefined);
    expect([cache.get(path(1)), cache.get(path(2)), cache.get(path(3))]).toEqual([info, 'absent', undefined]);
    await waitFor('the negative answer to be forgotten', async () => cache.get(path(2)) === undefined || undefined);
    expect(cache.get(path(1))).toBe(info);
  });

  it('holds ten thousand answers, the latest ones', () => {
    const cache = new NarInfoCache({ positive: 60_000, negative: 60_000 });
    for (let index = 0; index < 10_001; index++) cache.set(path(index), info);
    expect([cache.get(path(0)), cache.get(path(1)), cache.get(path(10_000))]).toEqual([undefined, info, info]);
  });
});
