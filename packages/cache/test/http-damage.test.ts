import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { NatsCache } from '@nex-nix/cache';
import { decompress, narHashOf, type PathInfo, storePathHash } from '@nex-nix/nix';
import { describeEachNix, describeWith } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds, deleteChunk, replaceChunk } from './damage-tools.ts';
import { addClosure, noise, startService } from './fixture.ts';
import { addPaths, nixMachine, putBytes, startDoor } from './http-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

/** Deletes what is stored under a subject, behind everybody's back. */
async function deleteLast(nc: NatsConnection, stream: string, subject: string): Promise<void> {
  const jsm = await jetstreamManager(nc);
  const message = await jsm.streams.getMessage(stream, { last_by_subj: subject });
  await jsm.streams.deleteMessage(stream, message?.seq ?? 0);
}

const narUrl = (url: string, info: PathInfo) => `${url}/nar/${info.narHash.slice('sha256:'.length)}.nar`;

async function hashOf(answer: Response): Promise<string> {
  return narHashOf(
    createHash('sha256')
      .update(Buffer.from(await answer.arrayBuffer()))
      .digest(),
  );
}

/** Of what is in the frames. */
async function zstdHashOf(answer: Response): Promise<string> {
  const hash = createHash('sha256');
  const frames = (async function* () {
    yield Buffer.from(await answer.arrayBuffer());
  })();
  for await (const bytes of decompress(frames, 'zstd', { origin: answer.url })) hash.update(bytes);
  return narHashOf(hash.digest());
}

function recorder() {
  const errors: string[] = [];
  return {
    errors,
    logger: { info: () => undefined, error: (_: object, message: string) => void errors.push(message) },
  };
}

describeWith(['nats-server'], 'damage that the door meets', () => {
  it.each(['deleted', 'corrupted'] as const)(
    'a chunk %s under a reader is brought back by who has the path, and the reader gets its NAR',
    async (damage) => {
      const { errors, logger } = recorder();
      await using opened = await startDoor({ logger });
      const { test, door } = opened;
      const { data } = await addClosure(test.source);
      await test.cache.push(test.source, [data.storePath]);
      const healing = await NatsCache.open(await test.server.connect());
      await using _ = healing.heal(test.source);
      const chunks = await chunkIds(test.nc);
      for (const chunk of chunks) {
        if (damage === 'deleted') await deleteChunk(test.nc, chunk);
        else await replaceChunk(test.nc, chunk, noise(1000, 9));
      }
      // A door that was never asked for the narinfo: the client remembers it.
      const answer = await fetch(narUrl(door.url, data));
      expect(answer.status).toBe(200);
      expect(await hashOf(answer)).toBe(data.narHash);
      expect(errors).toContain('the cache is damaged');
      expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
    },
  );

  it('a stored frame that holds something else is not sent: it is brought back first, or the NAR is missing', async () => {
    const { errors, logger } = recorder();
    await using opened = await startDoor({ logger });
    const { test, door } = opened;
    const { data } = await addClosure(test.source);
    await test.cache.push(test.source, [data.storePath]);
    const url = `${narUrl(door.url, data)}.zst`;
    const whole = await fetch(url);
    expect(await zstdHashOf(whole)).toBe(data.narHash);
    const spoil = async () => {
      for (const chunk of await chunkIds(test.nc)) {
        await replaceChunk(test.nc, chunk, zstdCompressSync(noise(100_000, 9)), 'zstd');
      }
    };
    await spoil();
    const missing = await fetch(url);
    expect(missing.status).toBe(404);
    expect(await missing.text()).toMatch(/chunk/);
    expect(errors).toEqual(['the cache is damaged']);
    await test.cache.verify({ repair: test.source });
    await spoil();
    const healing = await NatsCache.open(await test.server.connect());
    await using _ = healing.heal(test.source);
    const healed = await fetch(url);
    expect(healed.status).toBe(200);
    expect(await zstdHashOf(healed)).toBe(data.narHash);
  });

  it('a NAR that nobody brings back is missing, and says so in the log', async () => {
    const { errors, logger } = recorder();
    await using opened = await startDoor({ logger });
    const { test, door } = opened;
    const { data } = await addClosure(test.source);
    await test.cache.push(test.source, [data.storePath]);
    for (const chunk of await chunkIds(test.nc)) await deleteChunk(test.nc, chunk);
    const answer = await fetch(narUrl(door.url, data));
    expect(answer.status).toBe(404);
    expect(await answer.text()).toMatch(/^Cannot (send|fetch) .* chunk/);
    expect(errors).toEqual(['the cache is damaged']);
    expect((await fetch(narUrl(door.url, data), { method: 'HEAD' })).status).toBe(404);
  });

  it('a path that is listed without its manifest is missing, and says so in the log', async () => {
    const { errors, logger } = recorder();
    await using opened = await startDoor({ logger });
    const { test, door } = opened;
    const { data } = await addClosure(test.source);
    await test.cache.push(test.source, [data.storePath]);
    await deleteLast(test.nc, 'NIX_NARS', `nixn.${data.narHash.slice('sha256:'.length)}`);
    const narInfo = `${door.url}/${storePathHash(data.storePath)}.narinfo`;
    for (const url of [narInfo, narInfo.replace('.narinfo', '.ls')]) expect((await fetch(url)).status, url).toBe(404);
    expect(errors).toEqual(['the cache is damaged', 'the cache is damaged']);
    expect((await fetch(narUrl(door.url, data))).status).toBe(404);
  });

  it.each(['deleted', 'corrupted'] as const)(
    'an upload whose chunks are %s before its narinfo comes is forgotten; the client is told to repeat, and can',
    async (damage) => {
      await using opened = await startDoor();
      const { test, door } = opened;
      await using other = await startService(test.server);
      expect(other.publicKey).toBeDefined();
      const { data } = await addClosure(test.source);
      const nar = Buffer.concat(await Array.fromAsync(test.source.nar(data)));
      const upload = async () => putBytes(narUrl(door.url, data), nar);
      const list = async () => putBytes(...narInfoOf(door.url, data));
      expect(await upload()).toMatchObject({ status: 201 });
      for (const chunk of await chunkIds(test.nc)) {
        if (damage === 'deleted') await deleteChunk(test.nc, chunk);
        else await replaceChunk(test.nc, chunk, noise(1000, 9));
      }
      const refused = await list();
      expect(refused).toMatchObject({ status: 422, text: expect.stringContaining('Copy the path again') as string });
      expect((await fetch(narUrl(door.url, data), { method: 'HEAD' })).status).toBe(404);
      expect(await test.cache.stat()).toMatchObject({ paths: 0 });
      expect(await upload()).toMatchObject({ status: 201 });
      expect(await list()).toMatchObject({ status: 200 });
      expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });
    },
  );
});

function narInfoOf(url: string, { storePath, narHash, narSize }: PathInfo): [url: string, text: string] {
  const file = `nar/${narHash.slice('sha256:'.length)}.nar`;
  const lines = [`StorePath: ${storePath}`, `URL: ${file}`, 'Compression: none', `NarHash: ${narHash}`];
  const text = [...lines, `NarSize: ${narSize}`, 'References: ', ''].join('\n');
  return [`${url}/${storePathHash(storePath)}.narinfo`, text];
}

describeEachNix('damage and real Nix', (nix) => {
  it('a copy is repeated and succeeds after its upload was lost; a reader does not see that a chunk was', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    await using builder = await nixMachine(nix);
    const { app, lib } = await addPaths(builder);
    const copy = async () => builder.nix('--store', builder.store, 'copy', '--to', `${door.url}?compression=zstd`, app);
    const lost = loseAtFirstCommit(test.nc);
    await expect(copy()).rejects.toThrow(/422[^]*Copy the path again/);
    await lost;
    await copy();
    expect(await test.cache.verify()).toMatchObject({ damaged: [], broken: [] });

    const healing = await NatsCache.open(await test.server.connect());
    await using _ = healing.heal(builder.source);
    for (const chunk of (await chunkIds(test.nc)).slice(0, 5)) await deleteChunk(test.nc, chunk);
    await using reader = await nixMachine(nix);
    const keys = ['--option', 'trusted-public-keys', opened.publicKey];
    await reader.nix('--store', reader.store, 'copy', ...keys, '--from', door.url, '--to', reader.store, app);
    await reader.nix('--store', reader.store, 'store', 'verify', '--no-trust', app, lib);
  }, 120_000);
});

/** Deletes all chunks when the first upload has been acknowledged, which its alias shows. */
async function loseAtFirstCommit(nc: NatsConnection): Promise<void> {
  const aliases = nc.subscribe('$KV.nix_alias.>', { max: 1 });
  for await (const _ of aliases) await nc.request('$JS.API.STREAM.PURGE.NIX_CHUNKS', '{}');
}
