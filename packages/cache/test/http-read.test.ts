import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { narHashOf, openBinaryCache, parseNarInfo, storePathBaseName, storePathHash } from '@nex-nix/nix';
import { describeEachNix, describeWith } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { addClosure, noise } from './fixture.ts';
import { addPaths, nixMachine, startDoor, type TestDoor } from './http-fixture.ts';

const TIMEOUT = 120_000;
vi.setConfig({ testTimeout: 90_000 });

describeWith(['nats-server'], 'the read side of the door', () => {
  it('says what it is', async () => {
    await using opened = await startDoor({ priority: 7 });
    const answer = await fetch(`${opened.door.url}/nix-cache-info`);
    expect(answer.headers.get('content-type')).toBe('text/x-nix-cache-info');
    expect(await answer.text()).toBe('StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 7\n');
  });

  it('has narinfos, signed, of what is listed, and of nothing else', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    const { app, lib } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    const url = `${door.url}/${storePathHash(app.storePath)}.narinfo`;
    const info = parseNarInfo(await (await fetch(url)).text());
    const digits = info.narHash.slice('sha256:'.length);
    expect(info).toMatchObject({ storePath: app.storePath, compression: 'zstd', url: `nar/${digits}.nar.zst` });
    expect(info.references).toContain(lib.storePath);
    expect(info.signatures).toHaveLength(1);
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
    const plain = parseNarInfo(await (await fetch(`${url}?compression=none`)).text());
    expect(plain).toMatchObject({ compression: 'none', url: `nar/${digits}.nar` });
    expect((await fetch(`${url}?compression=xz`)).status).toBe(400);
    const absent = storePathHash(app.storePath).replace(/^./, (first) => (first === '0' ? '1' : '0'));
    for (const missing of [`${absent}.narinfo`, `${absent}.ls`, 'x', 'nar/x.nar', `nar/${'0'.repeat(52)}.nar.zst`]) {
      for (const method of ['GET', 'HEAD']) {
        expect((await fetch(`${door.url}/${missing}`, { method })).status, missing).toBe(404);
      }
    }
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(405);
  });

  it.each([true, false])(
    'sends NARs in each form, exactly, in whole and in part (hashes blanked: %s)',
    async (normalise) => {
      await using opened = await startDoor();
      const { test, door } = opened;
      const { data, app } = await addClosure(test.source);
      await test.cache.push(test.source, [app.storePath], { normalise });
      for (const path of [data, app]) {
        const digits = path.narHash.slice('sha256:'.length);
        const nar = Buffer.concat(await Array.fromAsync(test.source.nar(path)));
        const plainUrl = `${door.url}/nar/${digits}.nar`;
        const plain = await fetch(plainUrl);
        expect(plain.headers.get('content-length')).toBe(String(path.narSize));
        expect(Buffer.from(await plain.arrayBuffer()).equals(nar)).toBe(true);
        // The length of the compressed form is known from the second time on at the latest.
        const once = await fetch(`${plainUrl}.zst`);
        const compressed = Buffer.from(await once.arrayBuffer());
        const again = await fetch(`${plainUrl}.zst`);
        expect(again.headers.get('content-length')).toBe(String(compressed.length));
        expect(Buffer.from(await again.arrayBuffer()).equals(compressed)).toBe(true);
        expect(hashOf(unframed(compressed))).toBe(path.narHash);
        for (const [url, whole] of [
          [plainUrl, nar],
          [`${plainUrl}.zst`, compressed],
        ] as const) {
          const head = await fetch(url, { method: 'HEAD' });
          expect(head.headers.get('content-length')).toBe(String(whole.length));
          expect(head.headers.get('accept-ranges')).toBe('bytes');
          const etag = head.headers.get('etag') ?? '';
          const middle = Math.floor(whole.length / 2);
          for (const [range, start, end] of [
            ['bytes=0-0', 0, 1],
            [`bytes=${middle}-`, middle, whole.length],
            [`bytes=10-${middle}`, 10, middle + 1],
            ['bytes=-10', whole.length - 10, whole.length],
          ] as const) {
            const part = await fetch(url, { headers: { range, 'if-range': etag } });
            expect(part.status).toBe(206);
            expect(part.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/${whole.length}`);
            expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(start, end)), range).toBe(true);
          }
          expect((await fetch(url, { headers: { range: `bytes=${whole.length}-` } })).status).toBe(416);
          expect((await fetch(url, { headers: { range: 'bytes=0-1', 'if-range': '"other"' } })).status).toBe(200);
          expect((await fetch(url, { headers: { range: 'bytes=0-1,3-4' } })).status).toBe(200);
          expect((await fetch(url, { headers: { 'if-none-match': etag } })).status).toBe(304);
        }
      }
    },
  );

  it('wraps chunks that are stored uncompressed into zstd frames', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    const path = await test.source.add('noise-1', { noise: noise(2_000_000, 9) });
    await test.cache.push(test.source, [path.storePath]);
    const answer = await fetch(`${door.url}/nar/${path.narHash.slice(7)}.nar.zst`);
    expect(hashOf(unframed(Buffer.from(await answer.arrayBuffer())))).toBe(path.narHash);
  });

  it('lists the files of a path', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    const { lib } = await addClosure(test.source);
    await test.cache.push(test.source, [lib.storePath]);
    const answer = await fetch(`${door.url}/${storePathHash(lib.storePath)}.ls`);
    const listing = (await answer.json()) as { root: { entries: { lib: { entries: Record<string, unknown> } } } };
    expect(listing.root.entries.lib.entries['x.so']).toMatchObject({ type: 'regular', size: 700_000 });
  });

  it('does not begin an answer that it cannot end: a NAR that lacks a chunk is not there', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    const { data } = await addClosure(test.source);
    await test.cache.push(test.source, [data.storePath]);
    const url = `${door.url}/nar/${data.narHash.slice(7)}.nar.zst`;
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
    await loseChunks(test.nc);
    // The service learns of it from its own reads only, so the door meets the hole: it must not say 200 and stop.
    const answer = await fetch(url).then(
      async (response) => (response.status === 200 ? response.arrayBuffer() : response.status),
      () => 'failed',
    );
    expect(answer).not.toBeInstanceOf(ArrayBuffer);
  });

  it('breaks the connection when the content is lost in the middle', async () => {
    await using opened = await startDoor();
    const { response } = await beginLarge(opened);
    await loseChunks(opened.test.nc);
    response.resume();
    await expect(once(response, 'end')).rejects.toThrow('aborted');
  });

  it('breaks the connection when NATS goes away in the middle, and serves again when it is back', async () => {
    await using opened = await startDoor();
    const { url, response, path } = await beginLarge(opened);
    process.kill(opened.test.server.pid, 'SIGSTOP');
    try {
      response.resume();
      await expect(once(response, 'end')).rejects.toThrow('aborted');
    } finally {
      process.kill(opened.test.server.pid, 'SIGCONT');
    }
    const whole = await (await fetch(url)).arrayBuffer();
    expect(hashOf(new Uint8Array(whole))).toBe(path.narHash);
  }, 90_000);

  it('needs the token for reads too, when it is told so', async () => {
    await using opened = await startDoor({ token: 'secret', protectReads: true });
    const url = `${opened.door.url}/nix-cache-info`;
    const answers = await Promise.all([
      fetch(url),
      fetch(url, { headers: { authorization: 'Bearer wrong' } }),
      fetch(url, { headers: { authorization: 'Bearer secret' } }),
      fetch(url, { headers: { authorization: `Basic ${btoa('any:secret')}` } }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 200, 200]);
    expect(answers[0]?.headers.get('www-authenticate')).toBe('Basic realm="nex cache"');
  });

  it('says where it cannot listen', async () => {
    await using opened = await startDoor();
    const port = Number(new URL(opened.door.url).port);
    await expect(startDoor({ port })).rejects.toMatchObject({ code: 'CACHE_LISTEN_FAILED' });
  });

  it('is a cache for our own client', async () => {
    await using opened = await startDoor();
    const { test, door } = opened;
    const { lib } = await addClosure(test.source);
    await test.cache.push(test.source, [lib.storePath]);
    const client = openBinaryCache(door.url);
    const info = await client.pathInfo(lib.storePath);
    if (info === undefined) throw new Error('not found');
    expect(hashOf(Buffer.concat(await Array.fromAsync(client.nar(info))))).toBe(lib.narHash);
  });
});

describeEachNix('reading with real Nix', (nix) => {
  it.each(['zstd', 'none'] as const)(
    'copies, substitutes, verifies and looks around (%s)',
    async (compression) => {
      await using opened = await startDoor({ compression });
      await using origin = await nixMachine(nix);
      const { app, lib } = await addPaths(origin);
      await opened.test.cache.push(origin.source, [app]);
      const { url } = opened.door;
      const keys = ['--option', 'trusted-public-keys', opened.publicKey];

      await using copier = await nixMachine(nix);
      await copier.nix('--store', copier.store, 'copy', ...keys, '--from', url, '--to', copier.store, app);
      await copier.nix('--store', copier.store, 'store', 'verify', '--no-trust', app, lib);
      await copier.nix('store', 'ping', '--store', url);
      const { stdout } = await copier.nix('path-info', '--store', url, '-r', app);
      expect(stdout.trim().split('\n').sort()).toEqual([app, lib].sort());
      await copier.nix('store', 'verify', '--store', url, ...keys, '-r', app);
      expect((await copier.nix('store', 'cat', '--store', url, join(app, 'bin/app'))).stdout).toContain(lib);

      await using substituter = await nixMachine(nix);
      const options = ['--option', 'substituters', url, '--option', 'trusted-public-keys', opened.publicKey];
      await substituter.run('nix-store', '--store', substituter.store, ...options, '-r', app);
      await substituter.nix('--store', substituter.store, 'store', 'verify', '--no-trust', '-r', app);

      await using stranger = await nixMachine(nix);
      const distrust = ['--option', 'trusted-public-keys', '', '--from', url, '--to', stranger.store, app];
      await expect(stranger.nix('--store', stranger.store, 'copy', ...distrust)).rejects.toThrow(/signature|trusted/);
    },
    TIMEOUT,
  );

  it(
    'shows the token of its netrc file, and reads nothing without it',
    async () => {
      await using opened = await startDoor({ protectReads: true });
      await using origin = await nixMachine(nix);
      const { lib } = await addPaths(origin);
      await opened.test.cache.push(origin.source, [lib]);
      const { url } = opened.door;
      const keys = ['--option', 'trusted-public-keys', opened.publicKey];
      await using member = await nixMachine(nix);
      await member.nix('--store', member.store, 'copy', ...keys, '--from', url, '--to', member.store, lib);
      await using stranger = await nixMachine(nix, { token: 'wrong' });
      const copy = stranger.nix('--store', stranger.store, 'copy', ...keys, '--from', url, '--to', stranger.store, lib);
      await expect(copy).rejects.toThrow(/binary cache|401/);
    },
    TIMEOUT,
  );

  it(
    'sees a failure, never half of a NAR, when the content is lost under it',
    async () => {
      await using opened = await startDoor();
      await using origin = await nixMachine(nix);
      const { lib } = await addPaths(origin);
      await opened.test.cache.push(origin.source, [lib]);
      await loseChunks(opened.test.nc);
      await using copier = await nixMachine(nix);
      const args = ['copy', '--no-check-sigs', '--from', opened.door.url, '--to', copier.store, lib];
      await expect(copier.nix('--store', copier.store, ...args)).rejects.toThrow(storePathBaseName(lib));
      const check = copier.nix('--store', copier.store, 'path-info', lib);
      await expect(check).rejects.toThrow('is not valid');
    },
    TIMEOUT,
  );
});

/** Asks for a NAR of 48 MiB, and reads the first of it only. */
async function beginLarge({ test, door }: TestDoor) {
  const path = await test.source.add('large-1', { noise: noise(48 << 20, 3) });
  await test.cache.push(test.source, [path.storePath]);
  const url = `${door.url}/nar/${path.narHash.slice('sha256:'.length)}.nar`;
  const [response] = (await once(get(url), 'response')) as [IncomingMessage];
  expect(response.statusCode).toBe(200);
  await once(response, 'readable');
  return { url, path, response };
}

/** Deletes the content of the cache behind everybody's back. */
async function loseChunks(nc: { request(subject: string, body?: string): Promise<unknown> }): Promise<void> {
  await nc.request('$JS.API.STREAM.PURGE.NIX_CHUNKS', '{}');
}

function hashOf(nar: Uint8Array): string {
  return narHashOf(createHash('sha256').update(nar).digest());
}

/** What all zstd frames of a file hold; the decoder of Node stops after the first. */
function unframed(file: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const end = file.indexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), at + 4);
    let next = end === -1 ? file.length : end;
    for (;;) {
      try {
        parts.push(zstdDecompressSync(file.subarray(at, next)));
        break;
      } catch (error) {
        // The magic number may come within a frame.
        if (next === file.length) throw error;
        const further = file.indexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), next + 4);
        next = further === -1 ? file.length : further;
      }
    }
    at = next;
  }
  return Buffer.concat(parts);
}
