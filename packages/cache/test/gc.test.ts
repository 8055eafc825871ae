import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { NatsCache } from '@nex-nix/cache';
import { formatSecretKey, generateSecretKey, type PathInfo, type StorePath } from '@nex-nix/nix';
import { copyClosure, LocalStore } from '@nex-nix/nix';
import { describeWith, startNatsServer, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { claimPath } from '../src/care/claims.ts';
import { Journal } from '../src/care/journal.ts';
import { pathRecord } from '../src/care/path-record.ts';
import { chunkIdOf } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { decodeEntry, makeEntry } from '../src/manifests/entry.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { mapOrdered } from '../src/tasks/map-ordered.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { addClosure, noise, startCache, startService, type TestCache, TreeSource } from './fixture.ts';

vi.setConfig({ testTimeout: 120_000 });

const NOTHING = { paths: 0, manifests: 0, chunks: 0, freedBytes: 0 };
const secretKey = generateSecretKey('test-cache-1');

async function listed(cache: NatsCache): Promise<StorePath[]> {
  return (await Array.fromAsync(cache.list())).map(({ storePath }) => storePath);
}

/** Stores chunks that no path has, of `size` bytes each. */
async function putGarbage(test: Pick<TestCache, 'nc'>, count: number, size = 200): Promise<void> {
  const jetstream = await openJetStream(test.nc);
  using compressor = new Compressor();
  const put = async (i: number, signal: AbortSignal) => {
    const bytes = noise(size, i % 251);
    bytes.writeUInt32LE(i);
    return putChunk(jetstream, { id: chunkIdOf(bytes), bytes }, { compressor, signal });
  };
  const puts = mapOrdered(Array.from({ length: count }).keys(), put, { window: 32 });
  while ((await puts.next()).done !== true);
}

/** That everything listed is whole, and can be pulled. */
async function expectWhole(cache: NatsCache, paths: readonly StorePath[]): Promise<void> {
  expect(await cache.verify()).toMatchObject({ damaged: [], broken: [] });
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  await copyClosure(cache, store, paths, { trustedKeys: [cache.publicKey] });
  for (const path of paths) expect(await store.has(path)).toBe(true);
}

describeWith(['nats-server'], 'collecting garbage', () => {
  it('takes nothing that is listed when there is no limit', async () => {
    await using test = await startCache();
    expect(await test.cache.collectGarbage()).toMatchObject({ ...NOTHING, keptPaths: 0, keptBytes: 0 });
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const report = await test.cache.collectGarbage({ grace: 0 });
    expect(report).toMatchObject({ ...NOTHING, keptPaths: 3 });
    expect(report.keptBytes).toBeGreaterThan(3 << 20);
    await expectWhole(test.cache, [app.storePath]);
  });

  it('takes what no path needs, and keeps what they share; a dry run says the same and changes nothing', async () => {
    await using test = await startCache();
    const big = { 'big.bin': noise(2 << 20) };
    const first = await test.source.add('tool-1', { ...big, 'only.bin': noise(1 << 20, 7) });
    const second = await test.source.add('tool-2', big);
    await test.cache.push(test.source, [first.storePath, second.storePath]);
    await putGarbage(test, 50);
    await test.cache.remove([first.storePath]);
    const dry = await test.cache.collectGarbage({ grace: 0, dryRun: true });
    expect(dry).toMatchObject({ paths: 0, manifests: 1, keptPaths: 1 });
    expect(dry.chunks).toBeGreaterThan(50);
    expect(dry.freedBytes).toBeGreaterThan(1 << 20);
    const before = await test.cache.stat();
    expect(await test.cache.collectGarbage({ grace: 0 })).toEqual(dry);
    const after = await test.cache.stat();
    expect(before.chunks - after.chunks).toBe(dry.chunks);
    expect(after.manifests).toBe(1);
    expect(await test.cache.collectGarbage({ grace: 0 })).toMatchObject(NOTHING);
    await expectWhole(test.cache, [second.storePath]);
    // Who asks which chunks are there hears the truth.
    expect((await test.cache.push(test.source, [first.storePath])).chunks.sent).toBeGreaterThan(0);
    await expectWhole(test.cache, [first.storePath, second.storePath]);
  });

  it('keeps content for a while that is not needed any more, or not yet', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const infos = await test.cache.closure([app.storePath]);
    await putGarbage(test, 10);
    const report = await test.cache.collectGarbage({ olderThan: 0 });
    expect(report).toMatchObject({ paths: 3, manifests: 0, chunks: 0, freedBytes: 0, keptPaths: 0 });
    expect(report.laterBytes).toBeGreaterThan(3 << 20);
    expect(await listed(test.cache)).toEqual([]);
    // A pull that was under way goes on.
    for (const info of infos) await Array.fromAsync(test.cache.nar(info));
    const later = await test.cache.collectGarbage({ grace: 0 });
    expect(later).toMatchObject({ paths: 0, manifests: 3, laterBytes: 0, keptBytes: 0 });
    expect(await test.cache.stat()).toMatchObject({ paths: 0, chunks: 0, manifests: 0 });
  });

  it('keeps by age what is pinned with all it refers to', async () => {
    await using test = await startCache();
    const { app, lib, data } = await addClosure(test.source);
    const other = await test.source.add('other-1', { a: 'a' });
    await test.cache.push(test.source, [app.storePath, other.storePath]);
    await test.cache.pin('site', lib.storePath);
    expect(await test.cache.collectGarbage({ olderThan: 3_600_000 })).toMatchObject({ paths: 0 });
    const report = await test.cache.collectGarbage({ olderThan: 0, grace: 0 });
    expect(report).toMatchObject({ paths: 2, keptPaths: 2 });
    expect(new Set(await listed(test.cache))).toEqual(new Set([lib.storePath, data.storePath]));
    await expectWhole(test.cache, [lib.storePath]);
    await test.cache.unpin('site');
    expect(await test.cache.collectGarbage({ olderThan: 0, grace: 0 })).toMatchObject({ paths: 2, keptPaths: 0 });
  });

  it('makes room by taking first what was not used longest; using a path keeps what it refers to', async () => {
    await using test = await startCache();
    const MiB = 1 << 20;
    const base = await test.source.add('base', { b: noise(MiB, 1) });
    const old = await test.source.add('old', { o: noise(MiB, 2) });
    const used = await test.source.add('used', { u: noise(MiB, 3) }, { references: [base.storePath] });
    const fresh = await test.source.add('fresh', { f: noise(MiB, 4) });
    for (const info of [base, used, old, fresh]) await test.cache.push(test.source, [info.storePath]);
    // The service notes a use once an hour: another one has not heard of it yet.
    await test.service[Symbol.asyncDispose]();
    test.service = await startService(test.server);
    await test.cache.closure([used.storePath]);
    const report = await test.cache.collectGarbage({ maxBytes: 3.5 * MiB, grace: 0 });
    expect(report).toMatchObject({ paths: 1, keptPaths: 3 });
    expect(report.keptBytes).toBeLessThanOrEqual(3.5 * MiB);
    expect(new Set(await listed(test.cache))).toEqual(new Set([base, used, fresh].map(({ storePath }) => storePath)));
    await test.cache.pin('keep', used.storePath);
    expect(await test.cache.collectGarbage({ maxBytes: 0, grace: 0 })).toMatchObject({ paths: 1, keptPaths: 2 });
    await expectWhole(test.cache, [used.storePath]);
  });

  it('is not done twice at once', async () => {
    await using test = await startCache();
    await using _ = await startService(test.server);
    await putGarbage(test, 3000);
    const results = await Promise.allSettled(Array.from({ length: 4 }, () => test.cache.collectGarbage({ grace: 0 })));
    let chunks = 0;
    for (const result of results) {
      if (result.status === 'fulfilled') chunks += result.value.chunks;
      else expect(result.reason).toMatchObject({ code: 'CACHE_COLLECTION_RUNNING' });
    }
    expect(chunks).toBe(3000);
    expect(await test.cache.stat()).toMatchObject({ chunks: 0 });
  });

  it('tells how far it is', async () => {
    await using test = await startCache();
    await putGarbage(test, 12_000, 40);
    const phases = new Set<string>();
    await test.cache.collectGarbage({ grace: 0, onProgress: ({ phase }) => phases.add(phase) });
    expect(phases.size).toBeGreaterThan(0);
    expect(await test.cache.stat()).toMatchObject({ chunks: 0 });
  });
});

describeWith(['nats-server'], 'collecting garbage beside others', () => {
  it('never breaks a push, nor what is pinned', async () => {
    await using test = await startCache({ secretKey });
    await using _ = await startService(test.server, { secretKey });
    const shared = { 'shared.bin': noise(2 << 20) };
    const base = await test.source.add('base', { b: noise(600_000, 1) });
    const pinned: PathInfo[] = [];
    const pushing = new AbortController();
    let rounds = 0;
    const collect = async () => {
      for (; !pushing.signal.aborted; rounds++) await test.cache.collectGarbage({ olderThan: 0, grace: 0 });
    };
    const collecting = Promise.allSettled([collect()]);
    try {
      const pushAll = async (worker: number) => {
        for (let i = 0; i < 8; i++) {
          const files = { ...shared, 'own.bin': noise(400_000, 10 + worker * 20 + i) };
          const info = await test.source.add(`app-${worker}-${i}`, files, { references: [base.storePath] });
          const report = await test.cache.push(test.source, [info.storePath]);
          expect(report.paths.total).toBe(2);
          // A collection may have been faster than the pin.
          const name = `app.${worker}.${i}`;
          const kept = await test.cache.pin(name, info.storePath).then(
            () => true,
            (error: unknown) => {
              expect(error).toMatchObject({ code: 'CACHE_PATH_NOT_FOUND' });
              return false;
            },
          );
          if (kept) pinned.push(info);
        }
      };
      await Promise.all([pushAll(0), pushAll(1)]);
    } finally {
      pushing.abort();
      await collecting;
    }
    expect(await collecting).toMatchObject([{ status: 'fulfilled' }]);
    expect(rounds).toBeGreaterThan(2);
    expect(pinned.length).toBeGreaterThan(0);
    await expectWhole(
      test.cache,
      pinned.map(({ storePath }) => storePath),
    );
  });

  it('waits for a claim, and a commit for what is being deleted', async () => {
    await using test = await startCache();
    const jetstream = await openJetStream(test.nc);
    const bytes = noise(5000);
    const id = chunkIdOf(bytes);
    using compressor = new Compressor();
    await putChunk(jetstream, { id, bytes }, { compressor });
    const info = await test.source.add('tool', { a: 'a' });
    const entry = makeEntry(
      { ...info, narSize: bytes.length },
      { ...info, narSize: bytes.length, chunks: [{ id, size: bytes.length }] },
    );
    const claim = { entry, decoded: decodeEntry(entry, 'test') };
    const { signal } = new AbortController();

    expect(await claimPath(jetstream, claim, { stored: undefined, signal })).toBeGreaterThan(0);
    expect(await test.cache.collectGarbage({ grace: 0 })).toMatchObject({ chunks: 0 });

    // The other way round: what was announced first is waited for.
    const order: string[] = [];
    const journal = new Journal(jetstream);
    const recheck = Promise.withResolvers<void>();
    const announced = Promise.withResolvers<void>();
    const doomed = { paths: [], manifests: [], chunks: [[id, 999] as const] };
    const deletion = journal.delete(
      doomed,
      async () => {
        announced.resolve();
        await recheck.promise;
        order.push('recheck');
        return doomed;
      },
      undefined,
    );
    await announced.promise;
    const claiming = claimPath(jetstream, claim, { stored: undefined, signal }).then(() => order.push('claimed'));
    await pathRecord(jetstream, info.storePath, { action: 'look' });
    recheck.resolve();
    await Promise.all([deletion, claiming]);
    expect(order).toEqual(['recheck', 'claimed']);
  });

  it('is taken over when the collector is killed in the middle', async () => {
    await using server = await startNatsServer();
    const nc = await server.connect();
    const script = fileURLToPath(new URL('service-process.ts', import.meta.url));
    const args = ['--conditions', 'nexsrc', script, server.url, formatSecretKey(secretKey)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(child.stdout, 'data');
      const cache = await NatsCache.open(nc);
      await using source = await TreeSource.open();
      const { app, data } = await addClosure(source);
      await cache.push(source, [app.storePath]);
      await cache.pin('data', data.storePath);
      await putGarbage({ nc }, 4000);

      const { signal, abort } = abortable();
      const collecting = cache.collectGarbage({ olderThan: 0, grace: 0, signal }).catch((error: unknown) => error);
      const journal = await new Kvm(nc).open('nix_care');
      const page = async () => (await journal.get('journal'))?.json<{ state: string; doomed: { chunks: unknown[] } }>();
      await expect
        .poll(
          async () => {
            const now = await page();
            return now?.state === 'deleting' && now.doomed.chunks.length > 0;
          },
          { interval: 1, timeout: 30_000 },
        )
        .toBe(true);
      child.kill('SIGKILL');
      await once(child, 'exit');
      abort();
      await collecting;
      const left = (await (await jetstreamManager(nc)).streams.info('NIX_CHUNKS')).state.messages;
      expect(left).toBeGreaterThan(100);

      await using _ = await startService(server, { secretKey });
      await expectWhole(cache, [data.storePath]);
      // What the page of the dead collector names does not stop a push.
      await cache.push(source, [app.storePath]);
      await expectWhole(cache, [app.storePath]);
      await cache.pin('app', app.storePath);
      expect((await cache.collectGarbage({ grace: 0 })).chunks).toBeGreaterThan(0);
      expect(await cache.collectGarbage({ grace: 0 })).toMatchObject(NOTHING);
      await expectWhole(cache, [app.storePath]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});

function abortable(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}
