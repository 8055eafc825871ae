import { generateSecretKey, publicKeyOf, storePathHash } from '@nex-nix/nix';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { describeEachNix, describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { addClosure } from './fixture.ts';
import { addPaths, nixMachine, startDoor, type TestDoor } from './http-fixture.ts';

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

/** An upstream that fails, and counts how often it is asked. */
async function startFailing(): Promise<{ url: string; asked: () => number } & AsyncDisposable> {
  let asked = 0;
  const server = createServer((_, response) => {
    asked++;
    response.writeHead(502).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: () => asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

describeWith(['nats-server'], 'a door whose upstream fails', () => {
  it('does not ask it for each path of a closure, and asks the next one', async () => {
    await using upstream = await startDoor();
    const { app, lib, data } = await addClosure(upstream.test.source);
    await upstream.test.cache.push(upstream.test.source, [app.storePath]);
    await using failing = await startFailing();
    const urls = [failing.url, upstream.door.url];
    await using opened = await startDoor({ upstreams: { urls, trustedKeys: [upstream.door.publicKey] } });
    for (const { storePath } of [data, lib, app]) {
      expect((await fetch(`${opened.door.url}/${storePathHash(storePath)}.narinfo`)).status).toBe(200);
    }
    expect(failing.asked()).toBe(1);
  }, 60_000);
});

describeEachNix('real Nix and a door whose upstream fails', (nix) => {
  it('goes on to its next cache, and asks the door again when it is told to', async () => {
    await using origin = await nixMachine(nix);
    const { app } = await addPaths(origin);
    await using upstream = await startDoor();
    await upstream.test.cache.push(origin.source, [app]);
    await using failing = await startFailing();
    const trustedKeys = [upstream.door.publicKey];
    await using opened = await startDoor({ upstreams: { urls: [failing.url], trustedKeys } });
    await using machine = await nixMachine(nix);
    const build = async (store: string, caches: string, { publicKey }: TestDoor, ...more: readonly string[]) => {
      const options = ['--option', 'substituters', caches, '--option', 'trusted-public-keys', publicKey, ...more];
      await machine.nix('--store', `local?root=${machine.dir}/${store}`, 'build', '--no-link', ...options, app);
    };
    await expect(build('alone', opened.door.url, opened)).rejects.toThrow(app);
    await build('next', `${opened.door.url} ${upstream.door.url}`, upstream);
    // The upstream is there again; the client remembers that the path was not.
    await using back = await startDoor({
      port: await freed(opened),
      upstreams: { urls: [upstream.door.url], trustedKeys },
    });
    await build('again', back.door.url, back, '--refresh');
  }, 90_000);
});

/** Stops a door. @returns its port. */
async function freed({ door }: TestDoor): Promise<number> {
  await door[Symbol.asyncDispose]();
  return Number(new URL(door.url).port);
}
