import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { copyClosure, LocalStore, type PathInfo, storePathHash } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds, deleteChunk, flipOnDisk, replaceChunk } from './damage-tools.ts';
import { addClosure, noise, startCache, type TestCache } from './fixture.ts';

vi.setConfig({ testTimeout: 120_000 });

/** The smallest chunk has this many bytes. */
const SIZE = 60_000;

/** Three paths, each one chunk. */
async function pushPaths(test: TestCache): Promise<PathInfo[]> {
  const one = await test.source.add('one', { 'a.bin': noise(SIZE, 1) });
  const two = await test.source.add('two', { 'a.bin': noise(SIZE, 2) });
  const three = await test.source.add('three', { 'a.bin': noise(SIZE, 3) });
  for (const { storePath } of [one, two, three]) await test.cache.push(test.source, [storePath]);
  return [one, two, three];
}

async function expectPullable(test: TestCache, paths: readonly PathInfo[]): Promise<void> {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  const roots = paths.map(({ storePath }) => storePath);
  await copyClosure(test.cache, store, roots, { trustedKeys: [test.cache.publicKey] });
  for (const root of roots) expect(await store.has(root)).toBe(true);
}

describeWith(['nats-server'], 'verify', () => {
  it('reads everything, and finds nothing wrong with what is whole', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const seen: number[] = [];
    const report = await test.cache.verify({ onProgress: ({ checkedChunks }) => seen.push(checkedChunks) });
    expect(report).toEqual({
      checkedChunks: (await chunkIds(test.nc)).length,
      checkedPaths: 3,
      damaged: [],
      broken: [],
    });
    expect(seen.at(-1)).toBe(report.checkedChunks);
  });

  it('finds a flipped bit on the disk of the server, names path and chunk, and has it repaired', async () => {
    await using test = await startCache();
    const paths = await pushPaths(test);
    await flipOnDisk(test.server, noise(SIZE, 2).subarray(1000, 5000));
    const report = await test.cache.verify();
    expect(report).toMatchObject({
      checkedPaths: 3,
      broken: [],
      damaged: [{ kind: 'corrupt', paths: [paths[1]?.storePath], outcome: 'removed' }],
    });
    const chunk = report.damaged[0]?.chunk ?? '';
    expect(await test.cache.verify({ repair: test.source })).toMatchObject({
      damaged: [{ chunk, outcome: 'repaired' }],
    });
    expect(await test.cache.verify()).toMatchObject({ damaged: [] });
    await expectPullable(test, paths);
  });

  it.each(['corrupt', 'missing'] as const)('finds a chunk that is %s, and repairs it at once', async (kind) => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    const twin = await test.source.add('twin', { 'big.bin': noise(3 << 20), 'zeros.bin': Buffer.alloc(4 << 20) });
    await test.cache.push(test.source, [app.storePath, twin.storePath]);
    for (const chunk of await chunkIds(test.nc)) {
      if (kind === 'missing') await deleteChunk(test.nc, chunk);
      else await replaceChunk(test.nc, chunk, noise(100, 9));
    }
    const report = await test.cache.verify({ repair: test.source });
    expect(report.damaged).toHaveLength(report.checkedChunks);
    expect(report.damaged.every((damage) => damage.kind === kind && damage.outcome === 'repaired')).toBe(true);
    const named = new Set(report.damaged.flatMap(({ paths }) => paths));
    expect(named).toEqual(new Set([app, lib, data, twin].map(({ storePath }) => storePath)));
    expect(report.damaged.some(({ paths }) => paths.length === 2)).toBe(true);
    expect(await test.cache.verify()).toMatchObject({ damaged: [] });
    await expectPullable(test, [app, twin]);
  });

  it('repairs nothing from a source that has the path with other content, or not at all', async () => {
    await using test = await startCache();
    const [one] = await pushPaths(test);
    for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    await test.source.add('one', { 'a.bin': noise(SIZE, 8) });
    const report = await test.cache.verify({ repair: test.source });
    const outcomes = report.damaged.map(({ paths, outcome }) => [paths[0], outcome]);
    expect(outcomes).toHaveLength(3);
    expect(outcomes.filter(([, outcome]) => outcome === 'kept')).toEqual([[one?.storePath, 'kept']]);
  });

  it('names paths that have lost their manifest, or what they refer to', async () => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const jsm = await jetstreamManager(test.nc);
    await jsm.streams.purge('NIX_NARS', { filter: `nixn.${app.narHash.slice('sha256:'.length)}` });
    await (await new Kvm(test.nc).open('nix_narinfo')).delete(storePathHash(data.storePath));
    const report = await test.cache.verify();
    expect(report).toMatchObject({ checkedPaths: 2, damaged: [] });
    expect(report.broken.map(({ outcome }) => outcome)).toEqual(['kept', 'kept']);
    expect(new Map(report.broken.map(({ storePath, why }) => [storePath, why]))).toEqual(
      new Map([
        [app.storePath, `Cannot read the manifest of "${app.storePath}": the cache has lost it`],
        [lib.storePath, `it refers to "${data.storePath}", which is not in the cache`],
      ]),
    );
    const repaired = await test.cache.verify({ repair: test.source });
    expect(repaired.broken.map(({ outcome }) => outcome)).toEqual(['repaired', 'repaired']);
    expect(await test.cache.verify()).toMatchObject({ checkedPaths: 3, damaged: [], broken: [] });
    await expectPullable(test, [app]);
  });

  it('repairs a path whose manifest is damaged, or was lost with chunks, and none from a source that has other content', async () => {
    await using test = await startCache();
    const [one, two, three] = (await pushPaths(test)) as [PathInfo, PathInfo, PathInfo];
    const jsm = await jetstreamManager(test.nc);
    const subject = (info: PathInfo) => `nixn.${info.narHash.slice('sha256:'.length)}`;
    for (const info of [one, two, three]) await jsm.streams.purge('NIX_NARS', { filter: subject(info) });
    await jetstream(test.nc).publish(subject(two), 'no manifest');
    for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    await test.source.add('three', { 'a.bin': noise(SIZE, 8) });
    const { broken } = await test.cache.verify({ repair: test.source });
    expect(new Map(broken.map(({ storePath, outcome }) => [storePath, outcome]))).toEqual(
      new Map([
        [one.storePath, 'repaired'],
        [two.storePath, 'repaired'],
        [three.storePath, 'kept'],
      ]),
    );
    expect((await test.cache.verify()).broken).toMatchObject([{ storePath: three.storePath }]);
    await expectPullable(test, [one, two]);
  });
});
