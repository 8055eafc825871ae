import type { NatsCache } from '@nex-nix/cache';
import type { StorePath } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { noise, startCache, type TestCache } from './fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

const KiB = 1024;
const SIZE = 60 * KiB;
const HOUR = 3_600_000;

interface Paths {
  readonly v1: StorePath;
  readonly v2: StorePath;
  readonly v3: StorePath;
  readonly lib: StorePath;
  readonly loose: StorePath;
}

/** Three versions of a deployment, of which the last two are pinned and refer to a library; and what nobody needs. */
async function pushVersions({ cache, source }: TestCache): Promise<Paths> {
  let seed = 0;
  const add = async (name: string, references: StorePath[] = []) => {
    const info = await source.add(name, { data: noise(SIZE, ++seed) }, { references });
    await cache.push(source, [info.storePath]);
    return info.storePath;
  };
  const v1 = await add('v1');
  const loose = await add('loose');
  const lib = await add('lib');
  const v2 = await add('v2', [lib]);
  const v3 = await add('v3', [lib]);
  for (const path of [v1, v2, v3]) await cache.pin('deployment.test.site', path, { keep: 2 });
  return { v1, v2, v3, lib, loose };
}

async function listed(cache: NatsCache): Promise<Set<StorePath>> {
  return new Set((await Array.fromAsync(cache.list())).map(({ storePath }) => storePath));
}

describeWith(['nats-server'], 'retention', () => {
  const pinned = ['v2', 'v3', 'lib'] as const;
  it.each([
    ['nothing', {}, ['v1', 'loose', ...pinned]],
    ['age, all younger', { olderThan: HOUR }, ['v1', 'loose', ...pinned]],
    ['age, all older', { olderThan: 0 }, pinned],
    ['size, with room for all', { maxBytes: 6 * SIZE }, ['v1', 'loose', ...pinned]],
    ['size, with room for all but one', { maxBytes: 4.5 * SIZE }, ['loose', ...pinned]],
    ['size, with room for what is pinned', { maxBytes: 3.5 * SIZE }, pinned],
    ['age and size, of which size takes more', { olderThan: HOUR, maxBytes: 4.5 * SIZE }, ['loose', ...pinned]],
    ['age and size, of which age takes more', { olderThan: 0, maxBytes: 6 * SIZE }, pinned],
  ] as const)('by %s keeps what it should, and always what is pinned', async (_what, limits, kept) => {
    await using test = await startCache();
    const paths = await pushVersions(test);
    const plan = await test.cache.collectGarbage({ ...limits, grace: 0, dryRun: true });
    expect(await test.cache.collectGarbage({ ...limits, grace: 0 })).toEqual(plan);
    expect(plan).toMatchObject({ paths: 5 - kept.length, keptPaths: kept.length, excessBytes: 0 });
    expect(await listed(test.cache)).toEqual(new Set(kept.map((name) => paths[name])));
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('says by how much what is pinned exceeds the size that is allowed', async () => {
    await using test = await startCache();
    const { v2, v3, lib } = await pushVersions(test);
    const report = await test.cache.collectGarbage({ maxBytes: SIZE, grace: 0 });
    expect(report).toMatchObject({ paths: 2, keptPaths: 3 });
    expect(report.excessBytes).toBe(report.keptBytes - SIZE);
    expect(await listed(test.cache)).toEqual(new Set([v2, v3, lib]));
  });

  it('says what of removed paths is kept for a while, and lets it go when it is asked for', async () => {
    await using test = await startCache();
    const { v1 } = await pushVersions(test);
    const before = await test.cache.collectGarbage();
    expect(before).toMatchObject({ laterBytes: 0, graceMs: 600_000 });
    await test.cache.remove([v1]);
    const report = await test.cache.collectGarbage();
    expect(report).toMatchObject({ manifests: 0, chunks: 0 });
    expect(report.laterBytes).toBeGreaterThanOrEqual(SIZE);
    const { freedBytes, manifests } = await test.cache.collectGarbage({ grace: 0 });
    expect({ freedBytes, manifests }).toEqual({ freedBytes: report.laterBytes, manifests: 1 });
  });
});
