import type { NatsConnection } from '@nats-io/nats-core';
import { generateSecretKey, type PathInfo } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { callOnce } from '../src/protocol/call.ts';
import { chunkIdOf } from '../src/chunks/chunk-id.ts';
import { putChunk } from '../src/chunks/chunk-store.ts';
import { encodeEntries, type Entry, makeEntry } from '../src/manifests/entry.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { type ListOutcome, SUBJECTS, type VerifiedPath, type VerifyOutcome } from '../src/protocol/protocol.ts';
import { Compressor } from '../src/chunks/zstd.ts';
import { noise, startCache, startService, type TestCache } from './fixture.ts';

/** A path of the source whose one chunk is stored. */
async function stored(test: TestCache, name: string, references: readonly PathInfo[] = []): Promise<PathEntry> {
  const info = await test.source.add(
    name,
    { file: name },
    { references: references.map(({ storePath }) => storePath) },
  );
  const bytes = Buffer.concat(await Array.fromAsync(test.source.nar(info)));
  const id = chunkIdOf(bytes);
  using compressor = new Compressor();
  await putChunk(await openJetStream(test.nc), { id, bytes }, { compressor });
  const { narHash, narSize } = info;
  return { info, entry: makeEntry(info, { narHash, narSize, chunks: [{ id, size: bytes.length }] }) };
}

interface PathEntry {
  readonly info: PathInfo;
  readonly entry: Entry;
}

async function ask(nc: NatsConnection, subject: string, body: Uint8Array | string): Promise<unknown> {
  return JSON.parse((await callOnce({ nc }, { subject, body })).toString());
}

async function verified(test: TestCache, { entry }: PathEntry): Promise<VerifiedPath> {
  const outcome = (await ask(test.nc, SUBJECTS.verify, encodeEntries([entry]))) as VerifyOutcome;
  if (outcome.outcome !== 'verified') throw new Error(`it is ${outcome.outcome}`);
  return { narInfo: entry.narInfo, receipt: outcome.receipt };
}

async function list({ nc }: TestCache, paths: readonly unknown[]): Promise<string[]> {
  const outcomes = (await ask(nc, SUBJECTS.listVerified, JSON.stringify(paths))) as ListOutcome[];
  return outcomes.map(({ outcome }) => outcome);
}

describeWith(['nats-server'], 'a path that is verified before it is listed', () => {
  it('is not listed by its verification, and then with all that it refers to, in their order', async () => {
    await using test = await startCache();
    const lib = await stored(test, 'lib');
    const app = await stored(test, 'app', [lib.info]);
    // Content does not wait for what it refers to.
    const [second, first] = [await verified(test, app), await verified(test, lib)];
    expect((await test.cache.stat()).paths).toBe(0);
    await expect(list(test, [second])).rejects.toMatchObject({ code: 'CACHE_REFERENCE_MISSING' });
    expect(await list(test, [first, second])).toEqual(['added', 'added']);
    expect((await test.cache.closure([app.info.storePath])).map(({ storePath }) => storePath)).toEqual([
      lib.info.storePath,
      app.info.storePath,
    ]);
    expect(await list(test, [first])).toEqual(['present']);
    expect(await ask(test.nc, SUBJECTS.verify, encodeEntries([lib.entry]))).toEqual({ outcome: 'present' });
  });

  it('can be listed by any service of the same key', async () => {
    const secretKey = generateSecretKey('test-cache-1');
    await using test = await startCache({ secretKey });
    const path = await verified(test, await stored(test, 'a'));
    await test.service[Symbol.asyncDispose]();
    test.service = await startService(test.server, { secretKey });
    expect(await list(test, [path])).toEqual(['added']);
  });

  it('is to be verified again without a receipt of its own, and so is what refers to it', async () => {
    await using test = await startCache();
    const lib = await stored(test, 'lib');
    const [first, other] = [await verified(test, lib), await verified(test, await stored(test, 'other'))];
    const second = await verified(test, await stored(test, 'app', [lib.info]));
    const { receipt, narInfo } = first;
    const forged = [
      { narInfo, receipt: other.receipt },
      { narInfo, receipt: { ...receipt, revision: receipt.revision + 1 } },
      { narInfo, receipt: { ...receipt, signature: '' } },
      { narInfo, receipt: { ...receipt, signature: noise(64).toString('base64') } },
      { narInfo: narInfo.replace(/^NarSize: .*$/m, 'NarSize: 1'), receipt },
      {
        narInfo: narInfo.replace(/^References: .*$/m, `References: ${other.narInfo.split('/')[3]?.split('\n')[0]}`),
        receipt,
      },
    ];
    for (const lie of forged) expect(await list(test, [lie, second])).toEqual(['stale', 'stale']);
    expect((await test.cache.stat()).paths).toBe(0);
    expect(await list(test, [first, second, other])).toEqual(['added', 'added', 'added']);
  });

  it('is not listed before what it refers to, although that comes with it', async () => {
    await using test = await startCache();
    const lib = await stored(test, 'lib');
    const [second, first] = [await verified(test, await stored(test, 'app', [lib.info])), await verified(test, lib)];
    const forged = { ...first, receipt: second.receipt };
    await expect(list(test, [second, forged])).rejects.toMatchObject({ code: 'CACHE_REFERENCE_MISSING' });
    expect((await test.cache.stat()).paths).toBe(0);
  });

  it('is to be verified again when its claim is gone', async () => {
    await using test = await startCache();
    const path = await stored(test, 'a');
    const before = await verified(test, path);
    expect(await list(test, [before])).toEqual(['added']);
    await test.cache.remove([path.info.storePath]);
    expect(await list(test, [before])).toEqual(['stale']);
    expect(await test.cache.pathInfo(path.info.storePath)).toBeUndefined();
  });

  it.each([
    ['no JSON', 'x'],
    ['no list', '{}'],
    ['no paths', '[null]'],
    ['no receipts', '[{"narInfo":""}]'],
  ])('is refused when what is sent are %s', async (_, body) => {
    await using test = await startCache();
    await expect(ask(test.nc, SUBJECTS.listVerified, body)).rejects.toMatchObject({ code: 'CACHE_PROTOCOL' });
  });
});
