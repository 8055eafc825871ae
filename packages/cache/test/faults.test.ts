import { readdir } from 'node:fs/promises';
import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, NatsCache, type PushProgress } from '@nex-nix/cache';
import { copyClosure, type CopyProgress, generateSecretKey, LocalStore, type PathInfo } from '@nex-nix/nix';
import { describeWith, type NatsServerOptions, startNatsServer, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { addClosure, noise, startCache, startService, TreeSource } from './fixture.ts';

vi.setConfig({ testTimeout: 90_000 });

const MIB = 1 << 20;
const secretKey = generateSecretKey('test-cache-1');

/** Calls `act` once, when `done` says that more than `bytes` have moved. */
function onceBeyond<T>(bytes: number, done: (progress: T) => number, act: () => void): (progress: T) => void {
  let acted = false;
  return (progress) => {
    if (acted || done(progress) < bytes) return;
    acted = true;
    act();
  };
}

const pushed = ({ narBytes }: PushProgress) => narBytes.done;
const pulled = ({ copiedBytes }: CopyProgress) => copiedBytes;

/** Reads every path of the closure back and verifies it. */
async function expectWhole(cache: NatsCache, root: PathInfo, paths: number): Promise<void> {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  const { copied } = await copyClosure(cache, store, [root.storePath], { trustedKeys: [cache.publicKey] });
  expect(copied).toHaveLength(paths);
}

/** `top` refers to `large`, which takes longer to move than the chunks that are read ahead. */
async function addLargeClosure(source: TreeSource): Promise<{ large: PathInfo; top: PathInfo }> {
  const large = await source.add('large-1', { 'large.bin': noise(32 * MIB, 3) });
  const top = await source.add('top-1', { 'bin/top': '#!/bin/sh\n' }, { references: [large.storePath] });
  return { large, top };
}

describeWith(['nats-server'], 'a server that is killed and comes back', () => {
  it('in the middle of a pull: the pull goes on, and is verified', async () => {
    await using test = await startCache();
    const { top } = await addLargeClosure(test.source);
    await test.cache.push(test.source, [top.storePath]);
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const restarts: Promise<void>[] = [];
    const onProgress = onceBeyond(4 * MIB, pulled, () => restarts.push(test.server.restart('SIGKILL')));
    const trustedKeys = [test.cache.publicKey];
    const { copied } = await copyClosure(test.cache, store, [top.storePath], { trustedKeys, onProgress });
    await Promise.all(restarts);
    expect(restarts).toHaveLength(1);
    expect(copied).toHaveLength(2);
    expect((await store.verify()).damaged).toEqual([]);
  });

  it('twice in the middle of a push, once while it commits: the push goes on, and all is readable', async () => {
    await using test = await startCache();
    const { top, large } = await addLargeClosure(test.source);
    const restarts: Promise<void>[] = [];
    const restart = () => restarts.push((restarts.at(-1) ?? Promise.resolve()).then(() => test.server.restart()));
    const early = onceBeyond(4 * MIB, pushed, restart);
    const late = onceBeyond(large.narSize, pushed, restart);
    const onProgress = (progress: PushProgress) => {
      early(progress);
      late(progress);
    };
    const report = await test.cache.push(test.source, [top.storePath], { onProgress });
    await Promise.all(restarts);
    expect(restarts).toHaveLength(2);
    expect(report.paths.pushed).toBe(2);
    await expectWhole(test.cache, top, 2);
  });
});

describeWith(['nats-server'], 'two pushers of the same closure', () => {
  it('at once, on connections and services of their own: both succeed, everything is stored once', async () => {
    await using test = await startCache({ secretKey });
    await using _second = await startService(test.server, { secretKey });
    const other = await NatsCache.open(await test.server.connect());
    const { top } = await addLargeClosure(test.source);
    const caches = [test.cache, other];
    const reports = await Promise.all(caches.map(async (cache) => cache.push(test.source, [top.storePath])));
    const { paths, chunks } = await test.cache.stat();
    expect(paths).toBe(2);
    // JetStream refuses the second of two equal chunks, so what both say to have sent adds up to what is there.
    expect(reports.reduce((sum, report) => sum + report.chunks.sent, 0)).toBe(chunks);
    await expectWhole(other, top, 2);
  });
});

describeWith(['nats-server'], 'a chunk that is deleted under a reader', () => {
  it('ends the pull with an error that names path and chunk; nothing is imported, nothing is left over', async () => {
    await using test = await startCache();
    const { large, top } = await addLargeClosure(test.source);
    await test.cache.push(test.source, [top.storePath]);
    const jsm = await jetstreamManager(test.nc);
    const subjects = await chunksOf(test.nc);
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const deletions: Promise<unknown>[] = [];
    // All of them: those that are on their way already are more than a few.
    const onProgress = onceBeyond(MIB, pulled, () => deletions.push(jsm.streams.purge('NIX_CHUNKS')));
    const trustedKeys = [test.cache.publicKey];
    const pull = copyClosure(test.cache, store, [top.storePath], { trustedKeys, onProgress });
    const error = await pull.catch((reason: unknown) => reason);
    await Promise.all(deletions);
    expect(deletions).toHaveLength(1);
    expect(error).toMatchObject({ name: 'CacheError', code: 'CACHE_CHUNK_MISSING', storePath: large.storePath });
    const { chunk, message } = error as { chunk: string; message: string };
    expect(subjects).toContain(`nixc.${chunk.slice(0, 2)}.${chunk}`);
    expect(message).toContain(large.storePath);
    expect(message).toContain(chunk);
    expect(await readdir(`${dir.path}/nix/store`)).not.toContain(large.storePath.slice('/nix/store/'.length));
    const halfDone = (await readdir(`${dir.path}/tmp`, { recursive: true })).filter((name) => name.includes('/'));
    expect(halfDone).toEqual([]);
    expect(await store.has(large.storePath)).toBe(false);
    expect(await store.has(top.storePath)).toBe(false);
  });
});

async function chunksOf(nc: NatsConnection): Promise<string[]> {
  const { state } = await (await jetstreamManager(nc)).streams.info('NIX_CHUNKS', { subjects_filter: 'nixc.>' });
  return Object.keys(state.subjects ?? {});
}

/** What a push into a full cache must come to. */
const FULL = { name: 'CacheError', code: 'CACHE_STORAGE_FULL', kind: 'failed', hint: expect.stringContaining('Raise') };

describeWith(['nats-server'], 'JetStream storage that is full', () => {
  it('by max_bytes of the stream: what was there stays readable, and after more is allowed the push works', async () => {
    await using test = await startCache({ maxBytes: 10 * MIB });
    const small = await test.source.add('small-1', { file: noise(2 * MIB, 8) });
    await test.cache.push(test.source, [small.storePath]);
    const { large, top } = await addLargeClosure(test.source);
    await expect(test.cache.push(test.source, [top.storePath])).rejects.toMatchObject(FULL);
    for (const { storePath } of [large, top]) expect(await test.cache.pathInfo(storePath)).toBeUndefined();
    await expectWhole(test.cache, small, 1);

    const jsm = await jetstreamManager(test.nc);
    const { config } = await jsm.streams.info('NIX_CHUNKS');
    await jsm.streams.update('NIX_CHUNKS', { ...config, max_bytes: 100 * MIB });
    const { chunks } = await test.cache.push(test.source, [top.storePath]);
    expect(chunks.sent).toBeLessThan(chunks.total);
    await expectWhole(test.cache, top, 2);
  });

  it.each(['NIX_NARS', 'KV_nix_narinfo'])('by max_bytes of %s: nothing of the path is listed', async (stream) => {
    await using test = await startCache();
    const small = await test.source.add('small-1', { file: noise(2 * MIB, 8) });
    await test.cache.push(test.source, [small.storePath]);
    const jsm = await jetstreamManager(test.nc);
    const { config, state } = await jsm.streams.info(stream);
    await jsm.streams.update(stream, { ...config, max_bytes: state.bytes + 16 });
    const { large, top } = await addLargeClosure(test.source);
    await expect(test.cache.push(test.source, [top.storePath])).rejects.toMatchObject(FULL);
    for (const { storePath } of [large, top]) expect(await test.cache.pathInfo(storePath)).toBeUndefined();
    expect((await Array.fromAsync(test.cache.list())).map(({ storePath }) => storePath)).toEqual([small.storePath]);
    await expectWhole(test.cache, small, 1);

    await jsm.streams.update(stream, { ...config, max_bytes: -1 });
    const { chunks } = await test.cache.push(test.source, [top.storePath]);
    expect(chunks.sent).toBeLessThan(chunks.total);
    await expectWhole(test.cache, top, 2);
  });

  it('by the limit of the account', async () => {
    await expectFullThenRoom((limit) => ({
      config: `accounts { A: { jetstream { max_file: ${limit} }, users: [{ user: a, password: a }] }, SYS: {} }
        system_account: SYS`,
    }));
  });

  it('by the limit of the server', async () => {
    await using dir = await tempDir();
    await expectFullThenRoom((limit) => ({
      jetstream: false,
      config: `jetstream { store_dir: ${JSON.stringify(dir.path)}, max_file_store: ${limit} }
        authorization { users: [{ user: a, password: a }] }`,
    }));
  });

  /** Pushes more than there is room for; then starts the server with a higher limit, and pushes again. */
  async function expectFullThenRoom(limited: (limit: string) => NatsServerOptions): Promise<void> {
    const options = limited('12MB');
    await using server = await startNatsServer(options);
    const user = { user: 'a', pass: 'a', reconnectTimeWait: 50, maxReconnectAttempts: -1 };
    await using _service = await CacheService.start(await server.connect(user), { secretKey });
    await using source = await TreeSource.open();
    const cache = await NatsCache.open(await server.connect(user));
    const { data, app } = await addClosure(source);
    await cache.push(source, [app.storePath]);
    const { large, top } = await addLargeClosure(source);
    await expect(cache.push(source, [top.storePath])).rejects.toMatchObject(FULL);
    for (const { storePath } of [large, top]) expect(await cache.pathInfo(storePath)).toBeUndefined();
    expect(await cache.pathInfo(data.storePath)).toBeDefined();

    Object.assign(options, limited('100MB'));
    await server.restart();
    await cache.push(source, [top.storePath]);
    await expectWhole(cache, top, 2);
    await expectWhole(cache, app, 3);
  }
});
