import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheHttpServer, CacheService } from '@nex-nix/cache';
import { formatPublicKey, generateSecretKey, storePathHash } from '@nex-nix/nix';
import { describeEachNix, describeWith, type RealNix, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { startNex } from '../../../test/e2e/nex.ts';
import { addClosure, noise, startCache, TreeSource } from './fixture.ts';
import { nixMachine, putBytes, TOKEN } from './http-fixture.ts';

const TIMEOUT = 90_000;
vi.setConfig({ testTimeout: TIMEOUT });

/** Calls back once, when this many messages of a subject have come. */
async function after(nc: NatsConnection, [subject, count]: [string, number], callback: () => void): Promise<void> {
  let seen = 0;
  nc.subscribe(subject, { max: count, callback: () => void (++seen === count && callback()) });
  await nc.flush();
}

const STORED: [string, number] = ['nixcx.*.*', 12];
const READ: [string, number] = ['$JS.API.DIRECT.GET.NIX_CHUNKS.>', 12];

/** A builder with a path of 24 MiB, and what copies it. */
async function copies(nix: RealNix) {
  await using stack = new AsyncDisposableStack();
  const builder = stack.use(await nixMachine(nix));
  const reader = stack.use(await nixMachine(nix));
  const path = await builder.add('large-1', { noise: noise(24 << 20, 5) });
  const owned = stack.move();
  const from = ['copy', '--no-check-sigs', '--from'];
  return {
    path,
    upload: async (url: string) =>
      builder.nix('--store', builder.store, 'copy', '--to', `${url}?compression=none`, path),
    download: async (url: string) => reader.nix('--store', reader.store, ...from, url, '--to', reader.store, path),
    hasRead: async () =>
      reader.nix('--store', reader.store, 'path-info', path).then(
        () => true,
        () => false,
      ),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describeEachNix('faults around the door', (nix) => {
  it('a door killed in the middle leaves nothing half-visible, and the copy is repeated', async () => {
    await using test = await startCache();
    await using dir = await tempDir();
    const tokenFile = join(dir.path, 'token');
    await writeFile(tokenFile, TOKEN, { mode: 0o600 });
    await using stack = new AsyncDisposableStack();
    let listen = '127.0.0.1:0';
    const start = async () => {
      const args = ['-s', test.server.url, 'cache', 'serve', '--listen', listen, '--token-file', tokenFile];
      const door = stack.use(startNex(args));
      const found = () => /^Binary cache at (http:\S+)\n/.exec(door.stderr())?.[1];
      const url = await waitFor('the door', found, { timeout: 30_000 });
      listen = new URL(url).host;
      return { url, kill: () => door.kill('SIGKILL') };
    };
    await using machines = await copies(nix);

    const first = await start();
    await after(test.nc, STORED, first.kill);
    await expect(machines.upload(first.url)).rejects.toThrow('unable to upload');
    expect(await test.cache.stat()).toMatchObject({ paths: 0 });
    const second = await start();
    await machines.upload(second.url);

    await after(test.nc, READ, second.kill);
    await expect(machines.download(second.url)).rejects.toThrow('unable to download');
    expect(await machines.hasRead()).toBe(false);
    const third = await start();
    await machines.download(third.url);
    expect(await machines.hasRead()).toBe(true);
  });

  it('a nats-server that restarts in the middle is waited for', async () => {
    await using test = await startCache();
    await using door = await CacheHttpServer.start(await test.server.connect({ reconnectTimeWait: 50 }), {
      token: TOKEN,
    });
    await using machines = await copies(nix);
    const restarts: Promise<void>[] = [];
    const restart = () => void restarts.push(test.server.restart());
    await after(test.nc, STORED, restart);
    await machines.upload(door.url);
    await after(test.nc, READ, restart);
    await machines.download(door.url);
    await Promise.all(restarts);
    expect(restarts).toHaveLength(2);
    expect(await machines.hasRead()).toBe(true);
  });

  it('a full JetStream is told to the client in so many words, nothing is half-visible, and there is no need to begin anew', async () => {
    await using test = await startCache({ maxBytes: 8 << 20 });
    await using door = await CacheHttpServer.start(test.nc, { token: TOKEN });
    await using machines = await copies(nix);
    await expect(machines.upload(door.url)).rejects.toThrow(/413[^]*JetStream has no room left/);
    expect(await test.cache.stat()).toMatchObject({ paths: 0 });
    expect((await fetch(`${door.url}/${storePathHash(machines.path)}.narinfo`)).status).toBe(404);
    const jsm = await jetstreamManager(test.nc);
    await jsm.streams.update('NIX_CHUNKS', { max_bytes: 64 << 20 });
    await machines.upload(door.url);
    await machines.download(door.url);
    expect(await machines.hasRead()).toBe(true);
  });
});

describeWith(['nats-server'], 'the NATS user of a door', () => {
  it('needs no more than is documented', async () => {
    const get = (stream: string) => [`$JS.API.DIRECT.GET.${stream}.>`, `$JS.API.STREAM.MSG.GET.${stream}`];
    const read = ['$NIXCACHE.read.>', ...['NIX_CHUNKS', 'KV_nix_alias', 'KV_nix_log'].flatMap(get)];
    const write = [...read, '$NIXCACHE.write.>', 'nixc.>', '$KV.nix_alias.>', '$KV.nix_log.>'];
    const user = (name: string, publish: readonly string[]) =>
      `{ user: ${name}, password: p, permissions { publish: ${JSON.stringify(publish)}, subscribe: "_INBOX.>" } }`;
    const users = ['{ user: service, password: p }', user('reader', read), user('writer', write)].join(', ');
    await using server = await startNatsServer({ config: `authorization { users [${users}] }` });
    const connect = async (name: string) => server.connect({ user: name, pass: 'p' });
    await using service = await CacheService.start(await connect('service'), {
      secretKey: generateSecretKey('test-cache-1'),
    });
    await using reading = await CacheHttpServer.start(await connect('reader'), { token: TOKEN });
    await using writing = await CacheHttpServer.start(await connect('writer'), { token: TOKEN });
    expect(formatPublicKey(reading.publicKey)).toBe(formatPublicKey(service.publicKey));

    await using source = await TreeSource.open();
    const { data } = await addClosure(source);
    const nar = Buffer.concat(await Array.fromAsync(source.nar(data)));
    const file = `nar/${data.narHash.slice('sha256:'.length)}.nar`;
    const narInfo = `${storePathHash(data.storePath)}.narinfo`;
    const text = `StorePath: ${data.storePath}\nURL: ${file}\nCompression: none\nNarHash: ${data.narHash}\nNarSize: ${data.narSize}\nReferences: \nSig: x-1:${Buffer.alloc(64).toString('base64')}\n`;
    const log = 'log/00000000000000000000000000000000-x.drv';
    expect((await putBytes(`${reading.url}/${file}`, nar)).text).toContain('NATS refuses it');
    expect((await putBytes(`${reading.url}/${log}`, 'text')).text).toContain('NATS refuses it');
    expect(await putBytes(`${writing.url}/${file}`, nar)).toMatchObject({ status: 201 });
    expect((await putBytes(`${reading.url}/${narInfo}`, text)).text).toContain('NATS refuses it');
    expect(await putBytes(`${writing.url}/${narInfo}`, text)).toMatchObject({ status: 200 });
    expect(await putBytes(`${writing.url}/${log}`, 'text')).toMatchObject({ status: 200 });
    for (const { url } of [reading, writing]) {
      for (const path of [narInfo, file, `${file}.zst`, narInfo.replace('.narinfo', '.ls'), log]) {
        expect((await fetch(`${url}/${path}`)).status, path).toBe(200);
      }
      expect((await fetch(`${url}/nar/${'0'.repeat(52)}.nar.xz`)).status).toBe(404);
    }
  });
});
