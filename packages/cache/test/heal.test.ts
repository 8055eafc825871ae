import { zstdCompressSync } from 'node:zlib';
import { copyClosure, LocalStore } from '@nex-nix/nix';
import { NatsCache } from '@nex-nix/cache';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds, deleteChunk, flipOnDisk, replaceChunk } from './damage-tools.ts';
import { addClosure, noise, startCache, type TestCache } from './fixture.ts';

vi.setConfig({ testTimeout: 120_000 });

/** A node that has the closure, and listens. */
async function startNode(test: TestCache, roots: Parameters<typeof copyClosure>[2], healed: string[]) {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await tempDir());
  const store = stack.use(await LocalStore.open({ dir: dir.path }));
  await copyClosure(test.cache, store, roots, { trustedKeys: [test.cache.publicKey] });
  const nc = await test.server.connect();
  const cache = await NatsCache.open(nc);
  stack.use(cache.heal(store, { onHealed: ({ chunk }) => healed.push(chunk) }));
  await nc.flush();
  return stack.move();
}

/** Pulls into an empty store, as a client that knows nothing yet. */
async function pull(
  test: TestCache,
  roots: Parameters<typeof copyClosure>[2],
  options: { healingMs?: number } = {},
): Promise<void> {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  const reader = await NatsCache.open(test.nc, options);
  await copyClosure(reader, store, roots, { trustedKeys: [reader.publicKey] });
  for (const root of roots) expect(await store.has(root)).toBe(true);
}

describeWith(['nats-server'], 'healing', () => {
  it('brings a chunk back that a reader misses, however it was damaged; the reader waits for it', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const healed: string[] = [];
    await using node = await startNode(test, [app.storePath], healed);
    expect(node.disposed).toBe(false);
    const chunks = await chunkIds(test.nc);
    const damages: ((chunk: string) => Promise<void>)[] = [
      (chunk) => deleteChunk(test.nc, chunk),
      (chunk) => replaceChunk(test.nc, chunk, noise(1000, 9)),
      (chunk) => replaceChunk(test.nc, chunk, noise(1000, 9), 'zstd'),
      (chunk) => replaceChunk(test.nc, chunk, zstdCompressSync(noise(1000, 9)), 'zstd'),
      (chunk) => replaceChunk(test.nc, chunk, zstdCompressSync(Buffer.alloc(1 << 24)), 'zstd'),
      (chunk) => replaceChunk(test.nc, chunk, noise(1000, 9), 'lz4'),
      (chunk) => replaceChunk(test.nc, chunk, noise(1000, 9), ''),
      (chunk) => replaceChunk(test.nc, chunk, Buffer.alloc(0)),
    ];
    const victims: string[] = [];
    for (const [i, damage] of damages.entries()) {
      const victim = chunks[i % chunks.length] ?? '';
      victims.push(victim);
      await damage(victim);
      await pull(test, [app.storePath]);
      await expect.poll(() => healed, { timeout: 10_000 }).toEqual(victims);
    }
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('brings back everything at once when all is lost', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await using node = await startNode(test, [app.storePath], []);
    expect(node.disposed).toBe(false);
    for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    await pull(test, [app.storePath]);
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('brings back what the disk of the server has spoilt', async () => {
    await using test = await startCache();
    const info = await test.source.add('one', { 'a.bin': noise(60_000, 2) });
    await test.cache.push(test.source, [info.storePath]);
    await using node = await startNode(test, [info.storePath], []);
    expect(node.disposed).toBe(false);
    await flipOnDisk(test.server, noise(60_000, 2).subarray(1000, 5000));
    // The server is back when it answers; the node takes its own time to connect again.
    await test.cache.stat();
    await pull(test, [info.storePath], { healingMs: 30_000 });
    await test.cache.collectGarbage({ grace: 0 });
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('comes from a node that begins to listen while the reader waits', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const announced = Promise.withResolvers<void>();
    test.nc.subscribe('nixcx.lost', { callback: () => announced.resolve() });
    for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    const pulled = pull(test, [app.storePath], { healingMs: 30_000 });
    await announced.promise;
    await using healer = test.cache.heal(test.source);
    expect(healer).toBeDefined();
    await pulled;
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('is not waited for longer than the reader wants', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const [victim = ''] = await chunkIds(test.nc);
    await deleteChunk(test.nc, victim);
    const started = performance.now();
    await expect(pull(test, [app.storePath], { healingMs: 700 })).rejects.toMatchObject({
      code: 'CACHE_CHUNK_MISSING',
      chunk: victim,
    });
    expect(performance.now() - started).toBeGreaterThan(650);
  });

  it('works where the chunks are of another path with the same content, that refers to others', async () => {
    await using test = await startCache();
    const { source, cache } = test;
    const x = await source.add('x', { x: 'x' });
    const y = await source.add('y', { y: 'y' });
    const text = `${x.storePath} ${y.storePath}`;
    const files = { 'a.txt': text, 'big.bin': noise(1 << 20), 'z.txt': text.repeat(20_000) };
    const first = await source.add('first', files, { references: [x.storePath] });
    const second = await source.add('second', files, { references: [y.storePath] });
    expect(first.narHash).toBe(second.narHash);
    await cache.push(source, [first.storePath]);
    await cache.push(source, [second.storePath]);
    await using node = await startNode(test, [second.storePath], []);
    expect(node.disposed).toBe(false);
    const { chunks } = await cache.stat();
    const damage = async () => {
      for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    };
    await damage();
    await pull(test, [second.storePath]);
    // What the first path has, all but its reference, is the same.
    await expect(pull(test, [first.storePath], { healingMs: 0 })).rejects.toMatchObject({ storePath: x.storePath });
    await damage();
    const report = await cache.verify({ repair: source });
    expect(report.damaged.filter(({ outcome }) => outcome !== 'repaired')).toEqual([]);
    expect(report.checkedChunks).toBeLessThanOrEqual(chunks);
    expect(await cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('by several nodes at once stores each chunk once', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await using stack = new AsyncDisposableStack();
    for (let i = 0; i < 3; i++) stack.use(await startNode(test, [app.storePath], []));
    const all = await chunkIds(test.nc);
    for (const chunk of all) await deleteChunk(test.nc, chunk);
    await Promise.all([pull(test, [app.storePath]), pull(test, [app.storePath])]);
    // All nodes have done what they could.
    await stack.disposeAsync();
    expect(await test.cache.stat()).toMatchObject({ chunks: all.length });
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('is what verify asks for when it has no source of its own', async () => {
    await using test = await startCache();
    const { app, lib } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const healed: string[] = [];
    await using node = await startNode(test, [lib.storePath], healed);
    expect(node.disposed).toBe(false);
    const all = await chunkIds(test.nc);
    for (const chunk of all) await deleteChunk(test.nc, chunk);
    const report = await test.cache.verify();
    expect(report.damaged).toHaveLength(all.length);
    // All but the chunk of the path that the node does not have.
    const damaged = async () => (await test.cache.verify()).damaged.length;
    await expect.poll(damaged, { timeout: 20_000, interval: 200 }).toBe(1);
    expect(healed.length).toBeGreaterThan(0);
    const left = await test.cache.verify({ repair: test.source });
    expect(left.damaged).toMatchObject([{ kind: 'missing', paths: [app.storePath], outcome: 'repaired' }]);
  });

  it('takes no notice of announcements that make no sense, and ends with the node', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const errors: unknown[] = [];
    const logger = { info: () => undefined, error: (fields: unknown) => errors.push(fields) };
    const healer = test.cache.heal(test.source, { logger });
    const [chunk] = await chunkIds(test.nc);
    const before = test.source.read.length;
    for (const body of [
      '',
      'null',
      '[]',
      '{}',
      '{"chunk":"x","paths":[]}',
      JSON.stringify({ chunk, paths: ['/etc'] }),
    ]) {
      test.nc.publish('nixcx.lost', body);
    }
    await test.nc.flush();
    await healer[Symbol.asyncDispose]();
    await healer[Symbol.asyncDispose]();
    test.nc.publish('nixcx.lost', JSON.stringify({ chunk, paths: [app.storePath] }));
    await test.nc.flush();
    expect(test.source.read).toHaveLength(before);
    expect(errors).toEqual([]);
  });
});
