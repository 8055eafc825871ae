import type { NatsConnection } from '@nats-io/nats-core';
import { generateSecretKey, type PathInfo, parseStorePath, signPathInfo } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { callOnce } from '../src/protocol/call.ts';
import { chunkIdOf } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { encodeEntries, makeEntry } from '../src/manifests/entry.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import type { Manifest } from '../src/manifests/manifest.ts';
import { SUBJECTS } from '../src/protocol/protocol.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { noise, startCache, startService, type TestCache } from './fixture.ts';

/** What a publisher that does as it likes sends. */
async function commit(nc: NatsConnection, info: PathInfo, manifest: Manifest): Promise<unknown> {
  return commitBytes(nc, encodeEntries([makeEntry(info, manifest)]));
}

async function commitBytes(nc: NatsConnection, body: Uint8Array): Promise<unknown> {
  return JSON.parse((await callOnce({ nc }, { subject: SUBJECTS.commit, body })).toString());
}

/** A path of the source with its one chunk stored. */
async function stored(test: TestCache, name: string): Promise<{ info: PathInfo; manifest: Manifest }> {
  const info = await test.source.add(name, { file: name });
  const bytes = Buffer.concat(await Array.fromAsync(test.source.nar(info)));
  const id = chunkIdOf(bytes);
  using compressor = new Compressor();
  await putChunk(await openJetStream(test.nc), { id, bytes }, { compressor });
  return { info, manifest: { narHash: info.narHash, narSize: info.narSize, chunks: [{ id, size: bytes.length }] } };
}

describeWith(['nats-server'], 'commit', () => {
  it('may be repeated, and is refused for other content of the same path', async () => {
    await using test = await startCache();
    const { info, manifest } = await stored(test, 'a');
    expect(await commit(test.nc, info, manifest)).toEqual({ outcome: 'added' });
    expect(await commit(test.nc, info, manifest)).toEqual({ outcome: 'present' });
    const other = await stored(test, 'b');
    const changed = { ...other.info, storePath: info.storePath };
    await expect(commit(test.nc, changed, other.manifest)).rejects.toMatchObject({
      code: 'CACHE_PATH_CONFLICT',
      kind: 'refused',
    });
    expect(await test.cache.pathInfo(info.storePath)).toMatchObject({ narHash: info.narHash });
  });

  it('is refused when the chunks are not the NAR of the path', async () => {
    await using test = await startCache();
    const { info } = await stored(test, 'a');
    const { info: other, manifest } = await stored(test, 'b');
    const lying = { ...manifest, narHash: info.narHash };
    const error = { code: 'CACHE_NAR_MISMATCH', kind: 'refused', storePath: info.storePath };
    await expect(commit(test.nc, info, lying)).rejects.toMatchObject(error);
    await expect(commit(test.nc, info, lying)).rejects.toThrow(other.narHash);
    await expect(commit(test.nc, info, { ...lying, narSize: 1, chunks: [] })).rejects.toMatchObject({
      code: 'CACHE_MANIFEST_INVALID',
    });
    await expect(commit(test.nc, info, manifest)).rejects.toMatchObject({ code: 'CACHE_MANIFEST_INVALID' });
    expect((await test.cache.stat()).paths).toBe(0);
  });

  it('is refused when the chunks are no NAR, or are not there', async () => {
    await using test = await startCache();
    const { info } = await stored(test, 'a');
    const garbage = await test.source.add('garbage', {});
    const bytes = noise(1000);
    const id = chunkIdOf(bytes);
    const manifest = { narHash: garbage.narHash, narSize: bytes.length, chunks: [{ id, size: bytes.length }] };
    const lie = { ...garbage, narSize: bytes.length };
    await expect(commit(test.nc, lie, manifest)).rejects.toMatchObject({
      code: 'CACHE_CHUNK_MISSING',
      storePath: lie.storePath,
      chunk: id,
    });
    using compressor = new Compressor();
    await putChunk(await openJetStream(test.nc), { id, bytes }, { compressor });
    await expect(commit(test.nc, lie, manifest)).rejects.toThrow('its chunks are no NAR');
    expect(await test.cache.pathInfo(info.storePath)).toBeUndefined();
  });

  it('is refused before the references are listed', async () => {
    await using test = await startCache();
    const absent = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
    const { info, manifest } = await stored(test, 'a');
    await expect(commit(test.nc, { ...info, references: [absent] }, manifest)).rejects.toMatchObject({
      code: 'CACHE_REFERENCE_MISSING',
      message: `Cannot add "${info.storePath}": "${absent}", which it refers to, is not in the cache`,
    });
  });

  it('is refused when it makes no sense', async () => {
    await using test = await startCache();
    await expect(commitBytes(test.nc, noise(100))).rejects.toMatchObject({ code: 'CACHE_PROTOCOL' });
    await expect(commitBytes(test.nc, new Uint8Array())).rejects.toMatchObject({ code: 'CACHE_PROTOCOL' });
    const entry = { narInfo: 'StorePath: /etc/passwd\n', manifest: new Uint8Array() };
    await expect(commitBytes(test.nc, encodeEntries([entry]))).rejects.toMatchObject({ code: 'CACHE_NARINFO_INVALID' });
  });

  it('keeps the signatures of others, but none that only bears the name of the key of the cache', async () => {
    await using test = await startCache();
    const { info, manifest } = await stored(test, 'a');
    const signatures = ['upstream-1', 'test-cache-1'].map((name) => signPathInfo(info, generateSecretKey(name)));
    await commit(test.nc, { ...info, signatures }, manifest);
    const listed = await test.cache.pathInfo(info.storePath);
    expect(listed?.signatures).toHaveLength(2);
    expect(listed?.signatures).toContain(signatures[0]);
    expect(listed?.signatures).not.toContain(signatures[1]);
  });

  it('adds the signature of a new key to what is listed', async () => {
    await using test = await startCache();
    const { info, manifest } = await stored(test, 'a');
    await commit(test.nc, info, manifest);
    await test.service[Symbol.asyncDispose]();
    test.service = await startService(test.server, { secretKey: generateSecretKey('test-cache-2') });
    const report = await test.cache.push(test.source, [info.storePath]);
    expect(report).toMatchObject({ paths: { pushed: 1 }, chunks: { sent: 0 } });
    const listed = await test.cache.pathInfo(info.storePath);
    expect(listed?.signatures.map((signature) => signature.split(':')[0])).toEqual(['test-cache-1', 'test-cache-2']);
  });
});
