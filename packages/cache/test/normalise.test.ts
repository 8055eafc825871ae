import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { copyClosure, LocalStore, type PathInfo, type StorePath, storePathHash } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { callOnce } from '../src/protocol/call.ts';
import { chunkIdOf } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { encodeEntries, makeEntry } from '../src/manifests/entry.ts';
import { cutChunks } from '../src/chunks/fastcdc.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { type ChunkRef, decodeManifest, type Manifest } from '../src/manifests/manifest.ts';
import { Normaliser } from '../src/manifests/normalise.ts';
import { SUBJECTS } from '../src/protocol/protocol.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { noise, startCache, type TestCache } from './fixture.ts';

/** A library and an application that mentions it and itself, as a build would with this name in its hashes. */
async function build(test: TestCache, generation: string): Promise<{ lib: PathInfo; app: PathInfo }> {
  const { source } = test;
  const libName = `lib-${generation}`;
  const lib = await source.add(libName, await mentioning([(await source.add(libName, {})).storePath], 3));
  const appName = `app-${generation}`;
  const paths = [(await source.add(appName, {})).storePath, lib.storePath];
  const app = await source.add(appName, await mentioning(paths, 4), { references: [...paths].sort() });
  return { lib, app };
}

/** Noise of 2 MiB, with these paths in it every 100 kB, right at the start and at the end. */
async function mentioning(paths: readonly StorePath[], seed: number): Promise<Record<string, Buffer>> {
  const bytes = noise(2 << 20, seed);
  for (let at = 0, i = 0; at + 32 < bytes.length; at += 100_000, i++) {
    bytes.write(storePathHash(paths[i % paths.length] as StorePath), at, 'latin1');
  }
  bytes.write(storePathHash(paths[0] as StorePath), bytes.length - 32, 'latin1');
  return { 'bin/tool': bytes };
}

/** The first line of each stored manifest. */
async function manifestOf(test: TestCache, { narHash, storePath }: PathInfo): Promise<Manifest> {
  const jsm = await jetstreamManager(test.nc);
  const subject = `nixn.${narHash.slice('sha256:'.length)}`;
  const message = await jsm.direct.getMessage('NIX_NARS', { last_by_subj: subject });
  return decodeManifest(message?.data ?? new Uint8Array(), storePath);
}

async function pull(test: TestCache, info: PathInfo): Promise<Buffer> {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  await copyClosure(test.cache, store, [info.storePath], { trustedKeys: [test.cache.publicKey] });
  return readFile(join(store.realPath(info.storePath), 'bin/tool'));
}

describeWith(['nats-server'], 'normalisation', () => {
  it('sends nothing but manifests of a rebuild in which every hash changed, and gives back every byte', async () => {
    await using test = await startCache();
    const first = await build(test, '1');
    const second = await build(test, '2');
    expect((await test.cache.push(test.source, [first.app.storePath])).chunks.sent).toBeGreaterThan(10);
    // The names of both versions have the same length: so do the entries of the NARs.
    expect(await test.cache.push(test.source, [second.app.storePath])).toMatchObject({
      paths: { pushed: 2 },
      chunks: { sent: 0 },
      sentBytes: 0,
    });
    expect((await manifestOf(test, second.app)).mentions).toMatchObject({
      count: 22,
      hashes: [second.app, second.lib].map(({ storePath }) => storePathHash(storePath)).sort(),
    });
    const paths = [second.app.storePath, second.lib.storePath];
    expect(await pull(test, second.app)).toEqual((await mentioning(paths, 4))['bin/tool']);
    expect(await pull(test, first.lib)).toEqual((await mentioning([first.lib.storePath], 3))['bin/tool']);
  });

  it('can be switched off', async () => {
    await using test = await startCache();
    const first = await build(test, '1');
    const second = await build(test, '2');
    await test.cache.push(test.source, [first.app.storePath], { normalise: false });
    const report = await test.cache.push(test.source, [second.app.storePath], { normalise: false });
    expect(report.chunks.sent).toBe(report.chunks.total);
    expect((await manifestOf(test, second.app)).mentions).toBeUndefined();
    expect(await pull(test, second.app)).toHaveLength(2 << 20);
  });

  it('keeps a NAR readable for two paths that have it and refer to different paths', async () => {
    await using test = await startCache();
    const { lib } = await build(test, '1');
    const files = await mentioning([lib.storePath], 5);
    const twins = [];
    for (const name of ['twin-1', 'twin-2', 'twin-3', 'twin-4']) {
      twins.push(await test.source.add(name, files, { references: [lib.storePath] }));
    }
    expect(new Set(twins.map(({ narHash }) => narHash)).size).toBe(1);
    const report = await test.cache.push(
      test.source,
      twins.map(({ storePath }) => storePath),
    );
    expect(report.paths.pushed).toBe(5);
    for (const twin of twins) expect(await pull(test, twin)).toEqual(files['bin/tool']);
  });

  it('is verified by the service: a table that gives other bytes is refused', async () => {
    await using test = await startCache();
    const { lib } = await build(test, '1');
    const normaliser = new Normaliser(lib);
    const jetstream = await openJetStream(test.nc);
    using compressor = new Compressor();
    const chunks: ChunkRef[] = [];
    for await (const bytes of cutChunks(normaliser.normalise(test.source.nar(lib)))) {
      const id = chunkIdOf(bytes);
      await putChunk(jetstream, { id, bytes }, { compressor });
      chunks.push({ id, size: bytes.length });
    }
    const mentions = normaliser.mentions() ?? expect.fail('nothing is mentioned');
    const commit = (change: Partial<typeof mentions>) => {
      const manifest = { narHash: lib.narHash, narSize: lib.narSize, chunks, mentions: { ...mentions, ...change } };
      const body = encodeEntries([makeEntry(lib, manifest)]);
      return callOnce({ nc: test.nc }, { subject: SUBJECTS.commit, body });
    };
    await expect(commit({ hashes: ['0'.repeat(32)] })).rejects.toMatchObject({ code: 'CACHE_NAR_MISMATCH' });
    // A place that has no filler, and one beyond the end.
    const moved = { code: 'CACHE_MANIFEST_INVALID', message: expect.stringContaining(lib.storePath) as string };
    await expect(commit({ count: 1, table: Uint8Array.of(5, 0) })).rejects.toMatchObject(moved);
    await expect(commit({ table: mentions.table.subarray(1) })).rejects.toMatchObject(moved);
    expect((await test.cache.stat()).paths).toBe(0);
    await commit({});
    expect((await test.cache.stat()).paths).toBe(1);
  });

  it('replaces a manifest of the same NAR that was cut otherwise and has lost a chunk, and no whole one', async () => {
    await using test = await startCache();
    const { lib } = await build(test, '1');
    const delist = async () => (await new Kvm(test.nc).open('nix_narinfo')).delete(storePathHash(lib.storePath));
    await test.cache.push(test.source, [lib.storePath], { normalise: false });
    const plain = await manifestOf(test, lib);
    await delist();
    await test.cache.push(test.source, [lib.storePath]);
    expect(await manifestOf(test, lib)).toEqual(plain);

    const jsm = await jetstreamManager(test.nc);
    const id = plain.chunks[1]?.id ?? '';
    const message = await jsm.direct.getMessage('NIX_CHUNKS', { last_by_subj: `nixc.${id.slice(0, 2)}.${id}` });
    await jsm.streams.deleteMessage('NIX_CHUNKS', message?.seq ?? 0);
    await delist();
    await test.cache.push(test.source, [lib.storePath]);
    expect((await manifestOf(test, lib)).mentions).toBeDefined();
    expect(await pull(test, lib)).toHaveLength(2 << 20);
  });
});
