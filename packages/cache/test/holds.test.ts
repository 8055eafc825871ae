import { createHash } from 'node:crypto';
import { Kvm } from '@nats-io/kv';
import { CacheHttpServer } from '@nex-nix/cache';
import { encodeNixBase32, formatNarInfo, generateSecretKey, type PathInfo, storePathHash } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { claimPath } from '../src/care/claims.ts';
import { holdManifest } from '../src/care/holds.ts';
import { Journal } from '../src/care/journal.ts';
import { pathRecord } from '../src/care/path-record.ts';
import { chunkIdOf } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { decodeEntry, makeEntry } from '../src/manifests/entry.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { encodeManifest } from '../src/manifests/manifest.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { chunkIds, deleteChunk } from './damage-tools.ts';
import { noise, startCache, startService, type TestCache } from './fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

const TOKEN = 'a-token-of-no-use-elsewhere';

async function put(url: string, body: Uint8Array | string): Promise<number> {
  const answer = await fetch(url, { method: 'PUT', body, headers: { authorization: `Bearer ${TOKEN}` } });
  return answer.status;
}

/** The two steps in which Nix uploads a path. */
async function uploadOf(test: TestCache, { url }: CacheHttpServer, info: PathInfo) {
  const nar = Buffer.concat(await Array.fromAsync(test.source.nar(info)));
  const file = `nar/${encodeNixBase32(createHash('sha256').update(nar).digest())}.nar`;
  return {
    nar: () => put(`${url}/${file}`, nar),
    narInfo: () =>
      put(
        `${url}/${storePathHash(info.storePath)}.narinfo`,
        formatNarInfo({ ...info, url: file, compression: 'none', fileSize: nar.length }),
      ),
  };
}

async function heldKeys(test: TestCache): Promise<string[]> {
  return Array.fromAsync(await (await new Kvm(test.nc).open('nix_care')).keys('held.>'));
}

/** A manifest of one chunk, which is stored. */
async function storedManifest(test: TestCache) {
  const jetstream = await openJetStream(test.nc);
  const bytes = noise(5000);
  const id = chunkIdOf(bytes);
  using compressor = new Compressor();
  await putChunk(jetstream, { id, bytes }, { compressor });
  const info = await test.source.add('tool', { a: noise(1000) });
  const manifest = { ...info, narSize: bytes.length, chunks: [{ id, size: bytes.length }] };
  return { jetstream, info, id, manifest };
}

describeWith(['nats-server'], 'a collection beside an upload over HTTP', () => {
  it('leaves what waits for its narinfo, and takes it when the path was removed again', async () => {
    await using test = await startCache();
    await using door = await CacheHttpServer.start(test.nc, { token: TOKEN });
    const info = await test.source.add('uploaded', { 'big.bin': noise(2 << 20) });
    const upload = await uploadOf(test, door, info);
    expect(await upload.nar()).toBe(201);
    const { chunks } = await test.cache.stat();
    expect(await test.cache.collectGarbage({ olderThan: 0, grace: 0 })).toMatchObject({ chunks: 0, laterBytes: 0 });
    expect(await upload.narInfo()).toBe(200);
    expect(await test.cache.verify()).toMatchObject({
      checkedPaths: 1,
      checkedChunks: chunks,
      damaged: [],
      broken: [],
    });

    expect(await heldKeys(test)).toHaveLength(1);
    await test.cache.remove([info.storePath]);
    expect(await test.cache.collectGarbage({ grace: 0 })).toMatchObject({ chunks, manifests: 1 });
    expect(await heldKeys(test)).toEqual([]);
    // It can be uploaded again, and is kept again.
    expect(await upload.nar()).toBe(201);
    expect(await test.cache.collectGarbage({ grace: 0 })).toMatchObject({ chunks: 0 });
    expect(await upload.narInfo()).toBe(200);
    expect(await test.cache.verify()).toMatchObject({ checkedPaths: 1, damaged: [], broken: [] });
  });

  it('never takes what was acknowledged, however often they meet', async () => {
    await using test = await startCache();
    await using door = await CacheHttpServer.start(test.nc, { token: TOKEN });
    const done = new AbortController();
    const collecting = (async () => {
      while (!done.signal.aborted) await test.cache.collectGarbage({ olderThan: 0, grace: 0 });
    })();
    try {
      const shared = noise(1 << 20);
      for (let i = 0; i < 12; i++) {
        // The large file is what an earlier upload has left, and a collection is about to take.
        const info = await test.source.add(`upload-${i}`, { 'big.bin': shared, own: String(i) });
        const upload = await uploadOf(test, door, info);
        // 424: a collection was faster, copy it again.
        for (let status = 424; status !== 201;) {
          expect(status).toBe(424);
          status = await upload.nar();
        }
        expect(await upload.narInfo()).toBe(200);
      }
    } finally {
      done.abort();
      await collecting;
    }
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
  });

  it('is waited for, and what it took is named', async () => {
    await using test = await startCache();
    const { jetstream, id, manifest } = await storedManifest(test);
    const announced = Promise.withResolvers<void>();
    const recheck = Promise.withResolvers<void>();
    const doomed = { paths: [], manifests: [], chunks: [[id, 1] as const] };
    const deletion = new Journal(jetstream).delete(
      doomed,
      async () => {
        announced.resolve();
        await recheck.promise;
        return doomed;
      },
      undefined,
    );
    await announced.promise;
    const order: string[] = [];
    const { signal } = new AbortController();
    const holding = holdManifest(jetstream, encodeManifest(manifest), { has: () => false, signal });
    const held = holding.finally(() => order.push('held'));
    await expect.poll(() => heldKeys(test)).toHaveLength(1);
    order.push('recheck');
    recheck.resolve();
    await deletion;
    expect(await held).toEqual([id]);
    expect(order).toEqual(['recheck', 'held']);
  });
});

describeWith(['nats-server'], 'a listed path that is pushed again under another key', () => {
  it('has its new pieces kept from the moment on in which it is claimed', async () => {
    await using test = await startCache();
    const { jetstream, info, id, manifest } = await storedManifest(test);
    await test.cache.push(test.source, [info.storePath]);
    const listed = await pathRecord(jetstream, info.storePath, { action: 'look' });
    const { signal } = new AbortController();
    const entry = makeEntry({ ...info, narSize: manifest.narSize }, manifest);
    const claim = { entry, decoded: decodeEntry(entry, 'test') };
    expect(await claimPath(jetstream, claim, { stored: listed?.seq, signal })).toBe(listed?.seq);
    expect(await test.cache.collectGarbage({ grace: 0 })).toMatchObject({ chunks: 0 });
    expect(await chunkIds(test.nc)).toContain(id);
  });

  it('replaces a manifest that has lost a chunk, beside collections', async () => {
    await using test = await startCache();
    const info = await test.source.add('tool-1', { 'a.bin': noise(1 << 20), self: '' });
    const text = `${info.storePath}\n`.repeat(3000);
    const named = await test.source.add('tool-1', { 'a.bin': noise(1 << 20), self: text });
    await test.cache.push(test.source, [named.storePath]);
    const done = new AbortController();
    const collecting = (async () => {
      while (!done.signal.aborted) await test.cache.collectGarbage({ grace: 0 });
    })();
    try {
      for (let round = 0; round < 5; round++) {
        const before = await chunkIds(test.nc);
        await test.service[Symbol.asyncDispose]();
        test.service = await startService(test.server, { secretKey: generateSecretKey(`key-${round}`) });
        for (const chunk of before) await deleteChunk(test.nc, chunk);
        await test.cache.push(test.source, [named.storePath], { normalise: round % 2 === 1 });
        expect(await test.cache.verify()).toMatchObject({ checkedPaths: 1, damaged: [], broken: [] });
      }
    } finally {
      done.abort();
      await collecting;
    }
    expect(await test.cache.verify()).toMatchObject({ checkedPaths: 1, damaged: [], broken: [] });
    const info2 = await test.cache.pathInfo(named.storePath);
    expect(info2?.signatures).toHaveLength(6);
  });
});
