import type { NatsConnection } from '@nats-io/nats-core';
import { Svcm } from '@nats-io/services';
import { CacheService, NatsCache, type PushProgress } from '@nex-nix/cache';
import { copyClosure, formatPublicKey, generateSecretKey, LocalStore, publicKeyOf } from '@nex-nix/nix';
import { describeWith, startNatsServer, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { callOnce } from '../src/protocol/call.ts';
import { chunkIdOf, packChunkIds } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { SUBJECTS } from '../src/protocol/protocol.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { addClosure, noise, startCache, startService } from './fixture.ts';

const secretKey = generateSecretKey('test-cache-1');

describeWith(['nats-server'], 'what is not there', () => {
  it('no JetStream on the server', async () => {
    await using server = await startNatsServer({ jetstream: false });
    const nc = await server.connect();
    const error = {
      code: 'CACHE_NO_JETSTREAM',
      message: `Cannot open the cache: ${server.url} has no JetStream for this account`,
    };
    await expect(NatsCache.open(nc)).rejects.toMatchObject(error);
    await expect(CacheService.start(nc, { secretKey })).rejects.toMatchObject(error);
  });

  it('no JetStream for the account', async () => {
    await using server = await startNatsServer({
      config: 'accounts { A: { users: [{ user: a, password: a }] }, SYS: {} }\nsystem_account: SYS',
    });
    const nc = await server.connect({ user: 'a', pass: 'a' });
    await expect(NatsCache.open(nc)).rejects.toMatchObject({ code: 'CACHE_NO_JETSTREAM' });
    await expect(CacheService.start(nc, { secretKey })).rejects.toMatchObject({ code: 'CACHE_NO_JETSTREAM' });
  });

  it('no cache service', async () => {
    await using server = await startNatsServer();
    await expect(NatsCache.open(await server.connect())).rejects.toMatchObject({
      code: 'CACHE_UNAVAILABLE',
      kind: 'unreachable',
      message: `Cannot open the cache: no cache service answers on ${server.url}`,
    });
  });

  it('messages large enough for a chunk', async () => {
    await using server = await startNatsServer({ config: 'max_payload: 512KB' });
    const nc = await server.connect();
    await expect(CacheService.start(nc, { secretKey })).rejects.toMatchObject({ code: 'CACHE_PAYLOAD_LIMIT' });
  });

  it('room: the push fails with one error, and nothing of the path is listed', async () => {
    await using test = await startCache({ maxBytes: 2 << 20 });
    const { app, lib, data } = await addClosure(test.source);
    await expect(test.cache.push(test.source, [app.storePath])).rejects.toMatchObject({
      name: 'CacheError',
      code: 'CACHE_STORAGE_FULL',
      kind: 'failed',
    });
    for (const info of [app, lib, data]) expect(await test.cache.pathInfo(info.storePath)).toBeUndefined();
  });
});

describeWith(['nats-server'], 'trust', () => {
  it('signs what was pushed; who does not trust its key does not get it', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    expect(test.cache.publicKey.name).toBe('test-cache-1');
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const foreign = publicKeyOf(generateSecretKey('test-cache-1'));
    for (const trustedKeys of [[], [foreign]]) {
      await expect(copyClosure(test.cache, store, [app.storePath], { trustedKeys })).rejects.toMatchObject({
        code: 'NIX_PATH_UNTRUSTED',
      });
    }
    expect(await store.has(app.storePath)).toBe(false);
  });
});

describeWith(['nats-server'], 'CacheService', () => {
  it('is a micro service that anybody can find', async () => {
    await using test = await startCache();
    const infos = await Array.fromAsync(await new Svcm(test.nc).client().info('NixCache'));
    expect(infos).toHaveLength(1);
    expect(infos[0]?.metadata).toEqual({ public_key: formatPublicKey(test.service.publicKey) });
    expect(infos[0]?.endpoints.map(({ subject }) => subject)).toEqual(expect.arrayContaining(Object.values(SUBJECTS)));
  });

  it('keeps what it has when it is started again, and then knows what is stored', async () => {
    await using test = await startCache({ secretKey });
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    await test.service[Symbol.asyncDispose]();
    await test.service[Symbol.asyncDispose]();
    test.service = await startService(test.server, { secretKey });
    expect(await test.cache.closure([app.storePath])).toHaveLength(3);
    const copy = await test.source.add('copy', { 'big.bin': noise(3 << 20), 'zeros.bin': Buffer.alloc(4 << 20) });
    expect(await test.cache.push(test.source, [copy.storePath])).toMatchObject({
      paths: { pushed: 1 },
      chunks: { sent: 0 },
    });
  });

  it('shares the work with another one, and learns of chunks that it did not see come', async () => {
    await using test = await startCache({ secretKey });
    const bytes = noise(1000);
    const id = chunkIdOf(bytes);
    const has = async () => {
      const answer = await callOnce(test, { subject: SUBJECTS.have, body: packChunkIds([id]) });
      return answer[0] === 1;
    };
    expect(await has()).toBe(false);
    await using second = await startService(test.server, { secretKey });
    using compressor = new Compressor();
    await putChunk(await openJetStream(test.nc), { id, bytes }, { compressor });
    await expect.poll(has).toBe(true);
    await test.service[Symbol.asyncDispose]();
    await expect.poll(has).toBe(true);
    expect(second.publicKey.name).toBe('test-cache-1');
  });

  it('stops when its connection is gone already', async () => {
    await using server = await startNatsServer();
    const nc = await server.connect();
    const service = await CacheService.start(nc, { secretKey });
    await nc.close();
    await service[Symbol.asyncDispose]();
    await using again = await startService(server, { secretKey });
    expect(again.publicKey.name).toBe('test-cache-1');
  });
});

describeWith(['nats-server'], 'a server that goes away', () => {
  /** Runs `act` once, when a push is well under way. */
  const midway = (act: () => void) => {
    let acted = false;
    return ({ narBytes }: PushProgress) => {
      if (acted || narBytes.done < 2 << 20) return;
      acted = true;
      act();
    };
  };

  it('and comes back: the push goes on', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    const restarts: Promise<void>[] = [];
    const onProgress = midway(() => restarts.push(test.server.restart()));
    const report = await test.cache.push(test.source, [app.storePath], { onProgress });
    await Promise.all(restarts);
    expect(restarts).toHaveLength(1);
    expect(report.paths.pushed).toBe(3);
    const closure = await test.cache.closure([app.storePath]);
    for (const info of closure) await Array.fromAsync(test.cache.nar(info));
  });

  it('for good: one error, soon', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    const nc: NatsConnection = await test.server.connect({ reconnect: false });
    const cache = await NatsCache.open(nc);
    const closing: Promise<void>[] = [];
    const onProgress = midway(() => closing.push(nc.close()));
    await expect(cache.push(test.source, [app.storePath], { onProgress })).rejects.toMatchObject({
      code: 'CACHE_UNAVAILABLE',
      kind: 'unreachable',
    });
    await Promise.all(closing);
    await expect(test.cache.closure([app.storePath])).rejects.toMatchObject({ code: 'CACHE_PATH_NOT_FOUND' });
  });
});
