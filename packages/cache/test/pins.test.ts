import type { PathInfo } from '@nex-nix/nix';
import { parseStorePath } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { addClosure, startCache, type TestCache } from './fixture.ts';

const ABSENT = parseStorePath('/nix/store/4rpiqv9yr2pw5094v4wc33ijkqjpm9sa-hello-2.12.1');

async function pushVersions(test: TestCache, count: number): Promise<PathInfo[]> {
  const versions: PathInfo[] = [];
  for (let i = 1; i <= count; i++) versions.push(await test.source.add(`site-${i}`, { index: `version ${i}` }));
  await test.cache.push(
    test.source,
    versions.map(({ storePath }) => storePath),
  );
  return versions;
}

describeWith(['nats-server'], 'pins', () => {
  it('keep the last versions, the newest first, and are forgotten as a whole', async () => {
    await using test = await startCache();
    const { cache } = test;
    const paths = (await pushVersions(test, 5)).map(({ storePath }) => storePath);
    for (const path of paths.slice(0, 4)) await cache.pin('site.production', path);
    await cache.pin('site.test', paths[4] ?? ABSENT, { keep: 1 });
    const pins = await cache.pins();
    expect(pins.map(({ name, versions }) => [name, versions.map(({ storePath }) => storePath)])).toEqual([
      ['site.production', [paths[3], paths[2], paths[1]]],
      ['site.test', [paths[4]]],
    ]);
    expect(Math.abs(Date.now() - (pins[0]?.versions[0]?.since.getTime() ?? 0))).toBeLessThan(60_000);
    expect(await cache.resolvePin('site.production')).toBe(paths[3]);
    expect((await cache.stat()).pins).toBe(2);

    expect(await cache.unpin('site.production')).toBe(true);
    expect(await cache.unpin('site.production')).toBe(false);
    expect(await cache.resolvePin('site.production')).toBeUndefined();
    expect((await cache.pins()).map(({ name }) => name)).toEqual(['site.test']);
  });

  it('have a version once: pinned again it is the newest', async () => {
    await using test = await startCache();
    const [first, second] = (await pushVersions(test, 2)).map(({ storePath }) => storePath);
    for (const path of [first, second, first]) await test.cache.pin('site', path ?? ABSENT);
    const [pin] = await test.cache.pins();
    expect(pin?.versions.map(({ storePath }) => storePath)).toEqual([first, second]);
  });

  it('lose no change when several change one at once', async () => {
    await using test = await startCache();
    const paths = (await pushVersions(test, 8)).map(({ storePath }) => storePath);
    await Promise.all(paths.map((path) => test.cache.pin('site', path, { keep: 8 })));
    const [pin] = await test.cache.pins();
    expect(new Set(pin?.versions.map(({ storePath }) => storePath))).toEqual(new Set(paths));
  });

  it('refuse what is not there, names that are none, and no versions', async () => {
    await using test = await startCache();
    const [path] = (await pushVersions(test, 1)).map(({ storePath }) => storePath);
    await expect(test.cache.pin('site', ABSENT)).rejects.toMatchObject({
      code: 'CACHE_PATH_NOT_FOUND',
      storePath: ABSENT,
    });
    for (const name of ['', '.', 'a..b', 'a.', 'a b', 'a*', '>', 'x'.repeat(201)]) {
      await expect(test.cache.pin(name, path ?? ABSENT)).rejects.toMatchObject({ code: 'CACHE_PIN_NAME_INVALID' });
      await expect(test.cache.unpin(name)).rejects.toMatchObject({ code: 'CACHE_PIN_NAME_INVALID' });
    }
    await expect(test.cache.pin('site', path ?? ABSENT, { keep: 0 })).rejects.toMatchObject({ code: 'CACHE_PROTOCOL' });
    expect(await test.cache.pins()).toEqual([]);
  });
});

describeWith(['nats-server'], 'the list of paths', () => {
  it('has everything once, with what is known of it', async () => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await pushVersions(test, 250);
    const paths = await Array.fromAsync(test.cache.list());
    expect(paths).toHaveLength(253);
    expect(new Set(paths.map(({ storePath }) => storePath)).size).toBe(253);
    const { storePath, narHash, narSize, references } = lib;
    const listed = paths.find((path) => path.storePath === storePath);
    expect(listed).toMatchObject({ storePath, narHash, narSize, references });
    expect(Math.abs(Date.now() - (listed?.pushedAt.getTime() ?? 0))).toBeLessThan(60_000);
    const order = paths.map((path) => path.storePath);
    expect(order.indexOf(data.storePath)).toBeLessThan(order.indexOf(app.storePath));
  });

  it('is what the statistics count', async () => {
    await using test = await startCache();
    expect(await test.cache.stat()).toMatchObject({ paths: 0, logicalBytes: 0, dedupRatio: 1, pins: 0 });
    const { app, lib, data } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const stat = await test.cache.stat();
    const logicalBytes = app.narSize + lib.narSize + data.narSize;
    expect(stat).toMatchObject({ paths: 3, manifests: 3, logicalBytes });
    expect(stat.dedupRatio).toBeCloseTo(logicalBytes / stat.storedBytes);
    await test.cache.remove([app.storePath]);
    expect(await test.cache.stat()).toMatchObject({ paths: 2, logicalBytes: logicalBytes - app.narSize });
  });
});

describeWith(['nats-server'], 'removal', () => {
  it('refuses what is referred to or pinned, and says by what', async () => {
    await using test = await startCache();
    const { app, lib } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await test.cache.pin('site', app.storePath);
    await expect(test.cache.remove([lib.storePath])).rejects.toMatchObject({
      code: 'CACHE_PATH_IN_USE',
      kind: 'refused',
      storePath: lib.storePath,
      message: `Cannot remove "${lib.storePath}" from the cache: "${app.storePath}" refers to it`,
    });
    await expect(test.cache.remove([app.storePath])).rejects.toMatchObject({
      code: 'CACHE_PATH_IN_USE',
      message: `Cannot remove "${app.storePath}" from the cache: it is pinned as "site"`,
    });
    await expect(test.cache.remove([ABSENT])).rejects.toMatchObject({ code: 'CACHE_PATH_NOT_FOUND' });
    expect(await Array.fromAsync(test.cache.list())).toHaveLength(3);
  });

  it('takes paths that refer to each other together, and only them', async () => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const report = await test.cache.remove([lib.storePath, app.storePath]);
    expect(report.paths).toEqual([app.storePath, lib.storePath]);
    expect((await Array.fromAsync(test.cache.list())).map(({ storePath }) => storePath)).toEqual([data.storePath]);
    expect(await test.cache.pathInfo(app.storePath)).toBeUndefined();
    // Its content is still there: nothing is sent.
    expect(await test.cache.push(test.source, [app.storePath])).toMatchObject({
      paths: { pushed: 2, present: 1 },
      chunks: { sent: 0 },
    });
  });

  it('by force takes what refers to it as well, also out of the pins', async () => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await test.cache.pin('site', data.storePath);
    await test.cache.pin('site', app.storePath);
    const report = await test.cache.remove([lib.storePath], { force: true });
    expect(report.paths).toEqual([app.storePath, lib.storePath]);
    expect(await test.cache.resolvePin('site')).toBe(data.storePath);
  });
});
