import { describe, expect, it } from 'vitest';
import { allocateIds, parseIdMap } from './user-ids.ts';

const ALL = parseIdMap('         0          0 4294967295\n');

describe('allocateIds()', () => {
  it('gives two neighbouring ids of the container range, the same for the same key', () => {
    const ids = allocateIds(ALL, 'a');
    expect(ids.user).toBe(ids.root + 1);
    expect(ids.root).toBeGreaterThanOrEqual(0x4000_0000);
    expect(ids.user).toBeLessThan(0x6000_0000);
    expect(allocateIds(ALL, 'a')).toEqual(ids);
    expect(allocateIds(ALL, 'b')).not.toEqual(ids);
  });

  it('stays within the ids that exist in a container', () => {
    const extents = parseIdMap('0 100000 1\n1 200000 65535\n');
    for (const key of ['a', 'b', 'c', 'd']) {
      const { root, user } = allocateIds(extents, key);
      expect(root).toBeGreaterThan(32_000);
      expect(user).toBeLessThanOrEqual(65_535);
    }
  });
});
