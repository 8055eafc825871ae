import { readdir } from 'node:fs/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { headers, type NatsConnection } from '@nats-io/nats-core';
import { NatsCache } from '@nex-nix/cache';
import { copyClosure, LocalStore, type PathInfo } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { noise, startCache, type TestCache } from './fixture.ts';

const STREAM = 'NIX_CHUNKS';

/** The subjects of all stored chunks. */
async function chunkSubjects(nc: NatsConnection): Promise<string[]> {
  const jsm = await jetstreamManager(nc);
  const { state } = await jsm.streams.info(STREAM, { subjects_filter: 'nixc.>' });
  return Object.keys(state.subjects ?? {});
}

async function deleteChunk(nc: NatsConnection, subject: string): Promise<void> {
  const jsm = await jetstreamManager(nc);
  const message = await jsm.direct.getMessage(STREAM, { last_by_subj: subject });
  await jsm.streams.deleteMessage(STREAM, message?.seq ?? 0);
}

/** Puts other bytes under the name of a stored chunk. */
async function replaceChunk(
  nc: NatsConnection,
  subject: string,
  codec: 'raw' | 'zstd',
  body: Uint8Array,
): Promise<void> {
  await deleteChunk(nc, subject);
  const head = headers();
  head.set('Nix-Codec', codec);
  head.set('Nix-Len', String(body.length));
  await jetstream(nc).publish(subject, body, { headers: head });
}

async function pushOne(test: TestCache): Promise<{ info: PathInfo; subject: string; chunk: string }> {
  const info = await test.source.add('tool', { 'bin/tool': noise(1 << 20) });
  await test.cache.push(test.source, [info.storePath]);
  const subject = (await chunkSubjects(test.nc))[1] ?? '';
  return { info, subject, chunk: subject.split('.')[2] ?? '' };
}

/** Pulls into an empty store, which must stay empty; returns the error. */
async function failedPull(test: TestCache, info: PathInfo): Promise<unknown> {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  // Nobody has the path who could bring it back.
  const cache = await NatsCache.open(test.nc, { healingMs: 0 });
  const pull = copyClosure(cache, store, [info.storePath], { trustedKeys: [cache.publicKey] });
  const error: unknown = await pull.catch((error: unknown) => error);
  expect(await store.has(info.storePath)).toBe(false);
  expect(await readdir(`${dir.path}/nix/store`)).toEqual([]);
  return error;
}

describeWith(['nats-server'], 'a damaged cache', () => {
  it.each([
    ['other bytes', 'raw', noise(300_000, 9)],
    ['no zstd frame', 'zstd', noise(1000, 9)],
    ['nothing', 'raw', new Uint8Array()],
  ] as const)(
    'refuses a chunk that has become %s, names path and chunk, imports nothing',
    async (_what, codec, body) => {
      await using test = await startCache();
      const { info, subject, chunk } = await pushOne(test);
      await replaceChunk(test.nc, subject, codec, body);
      const error = await failedPull(test, info);
      expect(error).toMatchObject({ code: 'CACHE_CHUNK_CORRUPT', kind: 'failed', storePath: info.storePath, chunk });
      expect(String(error)).toContain(info.storePath);
      expect(String(error)).toContain(chunk);
    },
  );

  it('refuses a path with a missing chunk, names path and chunk, imports nothing', async () => {
    await using test = await startCache();
    const { info, subject, chunk } = await pushOne(test);
    await deleteChunk(test.nc, subject);
    const error = await failedPull(test, info);
    expect(error).toMatchObject({ code: 'CACHE_CHUNK_MISSING', storePath: info.storePath, chunk });
    expect(String(error)).toContain(info.storePath);
    expect(String(error)).toContain(chunk);
  });

  it.each(['missing', 'corrupt'] as const)('is repaired as the hint says: chunk %s', async (damage) => {
    await using test = await startCache();
    const { info, subject } = await pushOne(test);
    if (damage === 'missing') await deleteChunk(test.nc, subject);
    else await replaceChunk(test.nc, subject, 'raw', noise(5));
    const error = await failedPull(test, info);
    expect(error).toMatchObject({ hint: 'On a machine that has the path: nex cache verify --repair' });
    expect(await test.cache.verify({ repair: test.source })).toMatchObject({ damaged: [{ outcome: 'repaired' }] });
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    await copyClosure(test.cache, store, [info.storePath], { trustedKeys: [test.cache.publicKey] });
    expect(await store.has(info.storePath)).toBe(true);
  });

  it('says so when a listed path has lost its manifest, and is repaired as the hint says', async () => {
    await using test = await startCache();
    const { info } = await pushOne(test);
    await (await jetstreamManager(test.nc)).streams.purge('NIX_NARS');
    await expect(test.cache.closure([info.storePath])).rejects.toMatchObject({
      code: 'CACHE_MANIFEST_INVALID',
      storePath: info.storePath,
      hint: 'On a machine that has the path: nex cache verify --repair',
    });
    const report = await test.cache.verify({ repair: test.source });
    expect(report.broken).toMatchObject([{ storePath: info.storePath, outcome: 'repaired' }]);
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    await copyClosure(test.cache, store, [info.storePath], { trustedKeys: [test.cache.publicKey] });
    expect(await store.has(info.storePath)).toBe(true);
  });
});
