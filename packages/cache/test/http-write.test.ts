import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import {
  checkTrust,
  encodeNixBase32,
  formatNarInfo,
  generateSecretKey,
  parseStorePath,
  type PathInfo,
  publicKeyOf,
  signPathInfo,
  storePathBaseName,
  storePathHash,
} from '@nex-nix/nix';
import { describeEachNix, describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { noise } from './fixture.ts';
import { addPaths, nixMachine, startDoor, type TestDoor, TOKEN } from './http-fixture.ts';

const TIMEOUT = 180_000;
vi.setConfig({ testTimeout: 90_000 });

interface Answer {
  readonly status: number;
  readonly text: string;
  /** Whether the server asked for the body. */
  readonly continued: boolean;
}

/** Sends a request as Nix does: the body only when the server asks for it. */
async function put(url: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<Answer> {
  const bytes = Buffer.from(body);
  const options: RequestOptions = {
    method: 'PUT',
    headers: { authorization: `Bearer ${TOKEN}`, expect: '100-continue', 'content-length': bytes.length, ...headers },
  };
  const request = httpRequest(url, options);
  let continued = false;
  request.once('continue', () => {
    continued = true;
    request.end(bytes);
  });
  request.flushHeaders();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const text = Buffer.concat(await Array.fromAsync(response)).toString();
  request.destroy();
  return { status: response.statusCode ?? 0, text, continued };
}

const digest = (bytes: Uint8Array) => encodeNixBase32(createHash('sha256').update(bytes).digest());

/** A path of three megabytes and its NAR. */
async function sample({ test }: TestDoor, name = 'sample-1'): Promise<{ info: PathInfo; nar: Buffer }> {
  const info = await test.source.add(name, {
    'share/noise': noise(1 << 20),
    'share/text': Buffer.alloc(2 << 20, name),
  });
  return { info, nar: Buffer.concat(await Array.fromAsync(test.source.nar(info))) };
}

async function list({ door }: TestDoor, info: PathInfo, file: { url: string; compression: string }): Promise<Answer> {
  return put(`${door.url}/${storePathHash(info.storePath)}.narinfo`, formatNarInfo({ ...info, ...file }));
}

describeWith(['nats-server', 'xz', 'zstd', 'bzip2'], 'the write side of the door', () => {
  it.each([
    ['none', '.nar', (nar: Buffer) => nar],
    ['gzip', '.nar', (nar: Buffer) => gzipSync(nar)],
    ['gzip', '.nar.gz', (nar: Buffer) => gzipSync(nar)],
    ['br', '.nar.br', (nar: Buffer) => brotliCompressSync(nar)],
    [
      'zstd',
      '.nar.zst',
      (nar: Buffer) => Buffer.concat([zstdCompressSync(nar.subarray(0, 99)), zstdCompressSync(nar.subarray(99))]),
    ],
  ] as const)(
    'takes a NAR compressed by %s as %s, and serves it by the name of the upload',
    async (compression, suffix, compress) => {
      await using opened = await startDoor();
      const { info, nar } = await sample(opened);
      const body = compress(nar);
      const url = `nar/${digest(body)}${suffix}`;
      expect((await fetch(`${opened.door.url}/${url}`, { method: 'HEAD' })).status).toBe(404);
      expect(await put(`${opened.door.url}/${url}`, body)).toMatchObject({ status: 201, continued: true });
      expect((await fetch(`${opened.door.url}/${url}`, { method: 'HEAD' })).status).toBe(200);
      expect(await list(opened, info, { url, compression })).toMatchObject({ status: 200 });

      const listed = await opened.test.cache.pathInfo(info.storePath);
      expect(listed).toMatchObject({ narHash: info.narHash, narSize: info.narSize });
      expect(checkTrust(listed ?? info, [opened.door.publicKey]).trusted).toBe(true);
      const back = await fetch(`${opened.door.url}/${url}`);
      const file = Buffer.from(await back.arrayBuffer());
      // Sent again under the hash that it has now, it is the same NAR.
      const again = await put(`${opened.door.url}/nar/${digest(file)}${suffix}`, file);
      expect(again.status).toBe(201);
      expect(await list(opened, info, { url: `nar/${digest(file)}${suffix}`, compression })).toMatchObject({
        status: 200,
      });
    },
    TIMEOUT,
  );

  it('refuses before it asks for the body', async () => {
    await using opened = await startDoor({ maxUploadSize: 1000 });
    const url = `${opened.door.url}/nar/${'0'.repeat(52)}.nar`;
    for (const [target, headers, status] of [
      [url, { authorization: '' }, 401],
      [url, { authorization: 'Bearer wrong' }, 401],
      [url, { 'content-length': '1001' }, 413],
      [`${url}.lz4`, {}, 415],
      [`${opened.door.url}/anything`, {}, 404],
      [`${opened.door.url}/${'0'.repeat(32)}.narinfo`, { 'content-encoding': 'odd' }, 415],
    ] as const) {
      const answer = await put(target, 'x', headers);
      expect(answer).toMatchObject({ status, continued: false });
    }
    await using readOnly = await startDoor({ token: undefined });
    expect(await put(`${readOnly.door.url}/nix-cache-info`, 'x')).toMatchObject({ status: 403, continued: false });
  });

  it('refuses what is no NAR, or not the file or the path that it should be', async () => {
    await using opened = await startDoor();
    const { info, nar } = await sample(opened);
    const upload = (body: Uint8Array, name = digest(body)) => put(`${opened.door.url}/nar/${name}.nar`, body);
    expect(await upload(Buffer.concat([nar, Buffer.alloc(8)]))).toMatchObject({ status: 422 });
    expect(await upload(nar.subarray(0, -8))).toMatchObject({ status: 422 });
    expect(await upload(Buffer.alloc(3 << 20, 'not a NAR'))).toMatchObject({ status: 422 });
    const wrongName = await upload(nar, '0'.repeat(52));
    expect(wrongName).toMatchObject({
      status: 422,
      text: expect.stringContaining('the hash of what came is') as string,
    });
    const broken = await put(`${opened.door.url}/nar/${digest(nar)}.nar.xz`, nar);
    expect(broken).toMatchObject({ status: 422 });

    const file = { url: `nar/${digest(nar)}.nar`, compression: 'none' };
    expect(await list(opened, info, file)).toMatchObject({
      status: 422,
      text: expect.stringContaining('has not been uploaded') as string,
    });
    expect(await upload(nar)).toMatchObject({ status: 201 });
    const other = await opened.test.source.add('other-1', { x: 'y' });
    expect(await list(opened, other, file)).toMatchObject({ status: 422 });
    expect(await list(opened, { ...info, references: [other.storePath] }, file)).toMatchObject({
      status: 422,
      text: expect.stringContaining(other.storePath) as string,
    });
    expect(await list(opened, info, { ...file, url: '../../etc/passwd' })).toMatchObject({ status: 422 });
    const target = `${opened.door.url}/${storePathHash(info.storePath)}.narinfo`;
    expect(await put(target, 'no narinfo')).toMatchObject({ status: 400 });
    // Newer versions of Nix refuse a whole narinfo for one such line.
    const malformed = `${formatNarInfo({ ...info, ...file })}Sig: none\n`;
    expect(await put(target, malformed)).toMatchObject({ status: 400 });
    expect(await put(target, formatNarInfo({ ...other, ...file }))).toMatchObject({ status: 400 });
    expect(await opened.test.cache.stat()).toMatchObject({ paths: 0 });

    expect(await list(opened, info, file)).toMatchObject({ status: 200 });
  });

  it('adds signatures to a path that is listed, and does not replace its content', async () => {
    await using opened = await startDoor();
    const { info } = await sample(opened);
    await opened.test.cache.push(opened.test.source, [info.storePath]);
    const key = generateSecretKey('builder-1');
    const file = { url: `nar/${'0'.repeat(52)}.nar.xz`, compression: 'xz' };
    const signed = { ...info, signatures: [signPathInfo(info, key)] };
    expect(await list(opened, signed, file)).toMatchObject({ status: 200 });
    const listed = (await opened.test.cache.pathInfo(info.storePath)) ?? info;
    expect(listed.signatures).toHaveLength(2);
    expect(checkTrust(listed, [publicKeyOf(key)]).trusted).toBe(true);
    expect(checkTrust(listed, [opened.door.publicKey]).trusted).toBe(true);
    const forged = { ...info, signatures: [signPathInfo(info, { ...key, name: opened.door.publicKey.name })] };
    expect(await list(opened, forged, file)).toMatchObject({ status: 200 });
    expect(await opened.test.cache.pathInfo(info.storePath)).toEqual(listed);
    const other = { ...info, narSize: info.narSize + 8 };
    expect(await list(opened, other, file)).toMatchObject({
      status: 409,
      text: expect.stringContaining('other content') as string,
    });
  });

  it('decodes small bodies, and keeps logs', async () => {
    await using opened = await startDoor();
    const { info } = await sample(opened);
    const url = `${opened.door.url}/log/${storePathBaseName(info.storePath)}.drv`;
    expect((await fetch(url)).status).toBe(404);
    expect(await put(url, gzipSync('built it\n'), { 'content-encoding': 'gzip' })).toMatchObject({ status: 200 });
    expect(await (await fetch(url)).text()).toBe('built it\n');
    const bomb = gzipSync(Buffer.alloc(17 << 20));
    expect(await put(url, bomb, { 'content-encoding': 'gzip' })).toMatchObject({ status: 413 });
    expect(await put(`${opened.door.url}/nix-cache-info`, 'StoreDir: /nix/store\n')).toMatchObject({ status: 200 });
    expect(await put(`${opened.door.url}/nix-cache-info`, 'StoreDir: /gnu/store\n')).toMatchObject({ status: 409 });
  });

  it('gives up a client that sends nothing more', async () => {
    await using opened = await startDoor({ idleTimeout: 200 });
    const socket = connect(Number(new URL(opened.door.url).port), '127.0.0.1');
    const head = ['PUT /nix-cache-info HTTP/1.1', 'host: x', `authorization: Bearer ${TOKEN}`, 'content-length: 9'];
    socket.write(`${head.join('\r\n')}\r\n\r\nStore`);
    const [data] = (await once(socket, 'data')) as [Buffer];
    expect(data.toString()).toMatch(/^HTTP\/1.1 408/);
    socket.destroy();
  });

  it('lets uploads wait, and refuses those beyond before it asks for their body', async () => {
    await using opened = await startDoor();
    const { nar } = await sample(opened);
    const url = `${opened.door.url}/nar/${digest(nar)}.nar`;
    const headers = { authorization: `Bearer ${TOKEN}`, expect: '100-continue', 'content-length': nar.length };
    let continued = 0;
    const stalled = Array.from({ length: 4 + 64 }, () => {
      const request = httpRequest(url, { method: 'PUT', headers });
      request.on('continue', () => continued++).on('error', () => undefined);
      request.flushHeaders();
      return request;
    });
    await waitFor('the first uploads to be let in', () => continued === 4);
    expect((await fetch(`${opened.door.url}/nix-cache-info`)).status).toBe(200);
    expect(await put(url, nar)).toMatchObject({ status: 503, continued: false });
    for (const request of stalled) request.destroy();
    const answer = await waitFor('a free place', async () => {
      const tried = await put(url, nar);
      return tried.status === 201 ? tried : undefined;
    });
    expect(answer).toMatchObject({ continued: true });
  });

  it('takes several uploads of one path at once', async () => {
    await using opened = await startDoor();
    const { info, nar } = await sample(opened);
    const url = `nar/${digest(nar)}.nar`;
    const upload = async () => {
      expect(await put(`${opened.door.url}/${url}`, nar)).toMatchObject({ status: 201 });
      return list(opened, info, { url, compression: 'none' });
    };
    const answers = await Promise.all(Array.from({ length: 6 }, upload));
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(200));
    expect(await opened.test.cache.stat()).toMatchObject({ paths: 1 });
  });
});

describeEachNix('writing with real Nix', (nix) => {
  it.each([
    '',
    '?compression=zstd&narinfo-compression=gzip',
    '?compression=none',
    '?compression=gzip',
    '?compression=bzip2&write-nar-listing=true',
  ])(
    'copies into it and out of it again: "%s"',
    async (settings) => {
      await using opened = await startDoor();
      const { url } = opened.door;
      await using builder = await nixMachine(nix);
      const { app, lib } = await addPaths(builder);
      await builder.nix('--store', builder.store, 'copy', '--to', `${url}${settings}`, app);
      expect(await opened.test.cache.stat()).toMatchObject({ paths: 2 });

      await using reader = await nixMachine(nix);
      const keys = ['--option', 'trusted-public-keys', opened.publicKey];
      await reader.nix('--store', reader.store, 'copy', ...keys, '--from', url, '--to', reader.store, app);
      await reader.nix('--store', reader.store, 'store', 'verify', '--no-trust', app, lib);

      // The builder remembers the narinfo that it wrote itself, and asks for the file that it uploaded.
      const empty = `local?root=${join(builder.dir, 'empty')}`;
      const again = ['copy', '--no-check-sigs', '--from', `${url}${settings}`, '--to', empty, app];
      await builder.nix('--store', empty, ...again);
      await builder.nix('--store', empty, 'store', 'verify', '--no-trust', app, lib);
    },
    TIMEOUT,
  );

  it(
    'is told that its token is wrong, and nothing is stored',
    async () => {
      await using opened = await startDoor();
      await using builder = await nixMachine(nix, { token: 'wrong' });
      const { app } = await addPaths(builder);
      const copy = builder.nix('--store', builder.store, 'copy', '--to', opened.door.url, app);
      await expect(copy).rejects.toThrow('401');
      expect(await opened.test.cache.stat()).toMatchObject({ paths: 0, chunks: 0 });
    },
    TIMEOUT,
  );

  it(
    'is told that the cache has the path with other content',
    async () => {
      await using opened = await startDoor();
      const { test, door } = opened;
      await using builder = await nixMachine(nix);
      const { lib } = await addPaths(builder);
      // It learns that the cache lacks the path, and believes that for an hour; then another build of it is pushed.
      const url = `${door.url}?compression=zstd`;
      await expect(builder.nix('path-info', '--store', url, lib)).rejects.toThrow('is not valid');
      const other = await test.source.add('other', { x: 'y' });
      const otherLib = { ...other, storePath: lib };
      const source = { name: 'another builder', pathInfo: async () => otherLib, nar: () => test.source.nar(other) };
      await test.cache.push(source, [lib]);
      const copy = builder.nix('--store', builder.store, 'copy', '--to', url, lib);
      await expect(copy).rejects.toThrow(/409[^]*other content/);
    },
    TIMEOUT,
  );

  it(
    'takes one closure from two clients at once',
    async () => {
      await using opened = await startDoor();
      await using builder = await nixMachine(nix);
      const { app } = await addPaths(builder);
      // A memory of caches each: two clients that write into one at once fail by Nix's own fault.
      const copy = async (compression: string) => {
        const url = `${opened.door.url}?compression=${compression}`;
        const memory = `XDG_CACHE_HOME=${join(builder.dir, compression)}`;
        await builder.run('env', memory, 'nix', '--store', builder.store, 'copy', '--to', url, app);
      };
      await Promise.all([copy('zstd'), copy('none')]);
      expect(await opened.test.cache.stat()).toMatchObject({ paths: 2 });
      await using reader = await nixMachine(nix);
      const keys = ['--option', 'trusted-public-keys', opened.publicKey];
      await reader.nix('--store', reader.store, 'copy', ...keys, '--from', opened.door.url, '--to', reader.store, app);
    },
    TIMEOUT,
  );

  it(
    'adds a signature to a path of the cache',
    async () => {
      await using opened = await startDoor();
      await using builder = await nixMachine(nix);
      const { lib } = await addPaths(builder);
      const url = `${opened.door.url}?compression=zstd`;
      await builder.nix('--store', builder.store, 'copy', '--to', url, lib);
      const keyFile = join(builder.dir, 'key');
      const { stdout } = await builder.nix('key', 'generate-secret', '--key-name', 'second-1');
      await writeFile(keyFile, stdout);
      await builder.nix('store', 'sign', '--store', url, '-k', keyFile, lib);
      const listed = await opened.test.cache.pathInfo(lib);
      expect(listed?.signatures.map((signature) => signature.split(':')[0]).sort()).toEqual([
        'second-1',
        'test-cache-1',
      ]);
    },
    TIMEOUT,
  );

  it(
    'copies the log of a build into it, and reads it',
    async () => {
      await using opened = await startDoor();
      await using builder = await nixMachine(nix);
      const expression = '(derivation { name = "built"; builder = "/bin/sh"; system = "x86_64-linux"; }).drvPath';
      const evaluate = ['eval', '--raw', '--impure', '--expr', expression];
      const { stdout: derivation } = await builder.nix('--store', builder.store, ...evaluate);
      const base = storePathBaseName(parseStorePath(derivation));
      const logs = join(builder.root, 'nix/var/log/nix/drvs', base.slice(0, 2));
      await mkdir(logs, { recursive: true });
      await writeFile(join(logs, base.slice(2)), 'a line of the log\n');
      const { url } = opened.door;
      await builder.nix(
        '--store',
        builder.store,
        'copy',
        '--derivation',
        '--to',
        `${url}?compression=none`,
        derivation,
      );
      await builder.nix('--store', builder.store, 'store', 'copy-log', '--to', url, derivation);
      await using reader = await nixMachine(nix);
      const { stdout } = await reader.nix('log', '--store', url, derivation);
      expect(stdout).toContain('a line of the log');
    },
    TIMEOUT,
  );
});
