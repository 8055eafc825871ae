import { generateSecretKey, publicKeyOf, storePathHash } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { addClosure } from './fixture.ts';
import { startDoor } from './http-fixture.ts';

describeWith(['nats-server'], 'a door with upstreams', () => {
  it('fetches what it lacks with all that it refers to, and keeps it', async () => {
    await using upstream = await startDoor();
    const { app, lib, data } = await addClosure(upstream.test.source);
    await upstream.test.cache.push(upstream.test.source, [app.storePath]);
    const trustedKeys = [upstream.door.publicKey];
    await using opened = await startDoor({ upstreams: { urls: [upstream.door.url], trustedKeys } });
    const ask = async (path: string) => fetch(`${opened.door.url}/${path}`);

    const paths = [app, lib, data].map(({ storePath }) => `${storePathHash(storePath)}.narinfo`);
    const answers = await Promise.all(paths.map(ask));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    await upstream.door[Symbol.asyncDispose]();
    for (const { narHash, narSize } of [app, lib, data]) {
      const nar = await ask(`nar/${narHash.slice('sha256:'.length)}.nar`);
      expect((await nar.arrayBuffer()).byteLength).toBe(narSize);
    }
    const kept = await opened.test.cache.pathInfo(app.storePath);
    expect(kept?.signatures).toHaveLength(1);
    expect(await opened.test.cache.stat()).toMatchObject({ paths: 3 });
    expect((await ask(`${'0'.repeat(32)}.narinfo`)).status).toBe(404);
  }, 60_000);

  it('takes nothing that no trusted key has signed', async () => {
    await using upstream = await startDoor();
    const { app } = await addClosure(upstream.test.source);
    await upstream.test.cache.push(upstream.test.source, [app.storePath]);
    const trustedKeys = [publicKeyOf(generateSecretKey('test-cache-1'))];
    await using opened = await startDoor({ upstreams: { urls: [upstream.door.url], trustedKeys } });
    const answer = await fetch(`${opened.door.url}/${storePathHash(app.storePath)}.narinfo`);
    expect(answer.status).toBe(404);
    expect(await opened.test.cache.stat()).toMatchObject({ paths: 0, chunks: 0 });
  }, 60_000);
});
