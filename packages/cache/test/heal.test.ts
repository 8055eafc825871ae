import { copyClosure, LocalStore } from '@nex-nix/nix';
import { NatsCache } from '@nex-nix/cache';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds, deleteChunk, replaceChunk } from './damage-tools.ts';
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

describeWith(['nats-server'], 'healing', () => {
  it.each(['deleted', 'corrupted'] as const)(
    'a chunk %s under a reader is brought back by a node that has the path; the reader tries again',
    async (damage) => {
      await using test = await startCache();
      const { app } = await addClosure(test.source);
      await test.cache.push(test.source, [app.storePath]);
      const healed: string[] = [];
      await using node = await startNode(test, [app.storePath], healed);
      expect(node.disposed).toBe(false);
      const lost = await chunkIds(test.nc);
      const victim = lost[3] ?? '';
      if (damage === 'deleted') await deleteChunk(test.nc, victim);
      else await replaceChunk(test.nc, victim, noise(1000, 9));

      await using dir = await tempDir();
      await using store = await LocalStore.open({ dir: dir.path });
      const pull = async () => {
        const reader = await NatsCache.open(test.nc);
        await copyClosure(reader, store, [app.storePath], { trustedKeys: [reader.publicKey] });
      };
      await expect(pull()).rejects.toMatchObject({
        code: damage === 'deleted' ? 'CACHE_CHUNK_MISSING' : 'CACHE_CHUNK_CORRUPT',
        chunk: victim,
      });
      await expect.poll(() => healed, { timeout: 10_000 }).toEqual([victim]);
      await pull();
      expect(await store.has(app.storePath)).toBe(true);
      expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
    },
  );

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
