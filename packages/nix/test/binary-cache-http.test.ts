import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { type BinaryCacheOptions, openBinaryCache, type PathInfo } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { storePath } from './nix.ts';
import { serve, type TestServer } from './serve.ts';

const NOWHERE = '/nonexistent';
const QUICK: BinaryCacheOptions = { retryDelay: 1 };
const path = storePath('x-1');
const file = `/${path.slice(11, 43)}.narinfo`;
const NAR = randomBytes(3_000_000);
const narinfo = `StorePath: ${path}\nURL: nar/x\nCompression: none\nNarHash: sha256:${'0'.repeat(52)}\nNarSize: ${NAR.length}\n`;
const info = { storePath: path, url: 'nar/x', compression: 'none', narSize: NAR.length } as unknown as PathInfo;

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A server that answers each request by the next of `answers`, and all further ones by the last. */
async function serveInTurn(...answers: Answer[]): Promise<TestServer> {
  let count = 0;
  return serve(NOWHERE, (request, response) => {
    answers[Math.min(count++, answers.length - 1)]?.(request, response);
    return true;
  });
}

const status =
  (code: number, headers: Record<string, string> = {}, text = ''): Answer =>
  (_, response) =>
    response.writeHead(code, headers).end(text);
const found = status(200, {}, narinfo);
const cutConnection: Answer = (request) => request.socket.destroy();

async function nar(server: TestServer, options = QUICK): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(openBinaryCache(server.url, options).nar(info)));
}

describe('a binary cache over HTTP repeats requests', () => {
  it.each([408, 429, 500, 503])('after status %d', async (code) => {
    await using server = await serveInTurn(status(code), status(code), found);
    expect(await openBinaryCache(server.url, QUICK).pathInfo(path)).toMatchObject({ storePath: path });
    expect(server.requests).toHaveLength(3);
  });

  it('after a connection that breaks', async () => {
    await using server = await serveInTurn(cutConnection, found);
    expect(await openBinaryCache(server.url, QUICK).pathInfo(path)).toMatchObject({ storePath: path });
  });

  it('after a text that is cut off', async () => {
    await using server = await serveInTurn((_, response) => {
      response.writeHead(200, { 'content-length': narinfo.length });
      response.write(narinfo.slice(0, 50), () => response.destroy());
    }, found);
    expect(await openBinaryCache(server.url, QUICK).pathInfo(path)).toMatchObject({ storePath: path });
  });

  it('not for ever, and says what the server said', async () => {
    await using server = await serveInTurn(status(503, {}, 'the disk\u0007 is\nfull'));
    const asking = openBinaryCache(server.url, { ...QUICK, retries: 2 }).pathInfo(path);
    await expect(asking).rejects.toThrow(`"${server.url}${file}": the server answers 503: the disk is full`);
    expect(server.requests).toHaveLength(3);
  });

  it.each([400, 401, 501, 505])('not after status %d', async (code) => {
    await using server = await serveInTurn(status(code), found);
    await expect(openBinaryCache(server.url, QUICK).pathInfo(path)).rejects.toThrow(`answers ${code}`);
    expect(server.requests).toHaveLength(1);
  });

  it('as late as Retry-After asks for, or not at all when that is too late', async () => {
    await using server = await serveInTurn(status(429, { 'retry-after': '1' }), found);
    const begin = performance.now();
    await openBinaryCache(server.url, QUICK).pathInfo(path);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(990);

    await using patient = await serveInTurn(status(503, { 'retry-after': '3600' }), found);
    await expect(openBinaryCache(patient.url, QUICK).pathInfo(path)).rejects.toThrow('answers 503');
    expect(patient.requests).toHaveLength(1);
  });

  it('until it is told to stop', async () => {
    await using server = await serveInTurn(status(503));
    const options = { retryDelay: 60_000 };
    const asking = openBinaryCache(server.url, options).pathInfo(path, { signal: AbortSignal.timeout(50) });
    await expect(asking).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  it('over connections that stay open', async () => {
    const ports = new Set<number | undefined>();
    await using server = await serve(NOWHERE, (request, response) => {
      ports.add(request.socket.remotePort);
      return !!response.writeHead(request.url === '/nix-cache-info' ? 200 : 404).end('StoreDir: /nix/store\n');
    });
    const cache = openBinaryCache(server.url);
    for (let i = 0; i < 5; i++) await cache.info();
    await cache.pathInfo(path);
    await cache.info();
    // An answer that nobody reads may still be on its way when the next question comes.
    expect(ports.size).toBeLessThanOrEqual(2);
  });

  it('and lets its process end all the same', async () => {
    await using server = await serve(NOWHERE, (_, response) => !!response.writeHead(200).end('StoreDir: /nix/store\n'));
    const code = `import { openBinaryCache } from '@nex-nix/nix'; await openBinaryCache('${server.url}').info();`;
    const args = ['--conditions=nexsrc', '--input-type=module', '-e', code];
    // An idle connection is closed after ten seconds only.
    await promisify(execFile)(process.execPath, args, { cwd: import.meta.dirname, timeout: 8000 });
    expect(server.requests).toEqual(['/nix-cache-info']);
  });
});

/** Sends the NAR from the range asked for, but only `length` bytes of it. */
function pieceOf(length: number, headers: Record<string, string> = {}): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const all = { 'accept-ranges': 'bytes', 'content-length': String(NAR.length - from) };
    const range = from === 0 ? {} : { 'content-range': `bytes ${from}-${NAR.length - 1}/${NAR.length}` };
    response.writeHead(from === 0 ? 200 : 206, { ...all, ...range, ...headers });
    if (from + length >= NAR.length) response.end(NAR.subarray(from));
    else response.write(NAR.subarray(from, from + length), () => setImmediate(() => response.destroy()));
  };
}

describe('a NAR whose transfer breaks off', () => {
  it('goes on where it was cut', async () => {
    const ranges: unknown[] = [];
    const piece = pieceOf(1_200_000, { etag: '"v1"' });
    await using server = await serveInTurn((request, response) => {
      ranges.push(request.headers.range, request.headers['if-range']);
      piece(request, response);
    });
    expect((await nar(server)).equals(NAR)).toBe(true);
    expect(ranges.slice(0, 2)).toEqual([undefined, undefined]);
    expect(ranges[2]).toMatch(/^bytes=[1-9][0-9]+-$/);
    expect(ranges[3]).toBe('"v1"');
  });

  it.each([
    ['does not take ranges', {}],
    ['answers a range with everything', { 'accept-ranges': 'bytes' }],
  ])('begins again where the server %s, without giving bytes twice', async (_, headers) => {
    const whole = { ...headers, 'content-length': String(NAR.length) };
    await using server = await serveInTurn(
      (__, response) => {
        response.writeHead(200, whole).write(NAR.subarray(0, 2_000_000), () => setImmediate(() => response.destroy()));
      },
      (__, response) => response.writeHead(200, whole).end(NAR),
    );
    expect((await nar(server)).equals(NAR)).toBe(true);
    expect(server.requests).toHaveLength(2);
  });

  it.each([
    ['another part', { 'content-range': `bytes 5-${NAR.length - 1}/${NAR.length}` }],
    ['a part of a file of another size', { 'content-range': `bytes 1-${NAR.length}/${NAR.length + 1}` }],
    ['a part without saying which', { 'content-range': 'bytes' }],
    ['a part of another version', { etag: '"v2"' }],
  ])('fails when the rest is %s', async (_, headers) => {
    await using server = await serveInTurn(pieceOf(1_000_000, { etag: '"v1"' }), pieceOf(NAR.length, headers));
    await expect(nar(server)).rejects.toMatchObject({
      code: 'NIX_CACHE_INVALID',
      message: expect.stringContaining('the file changed while it was transferred'),
    });
  });

  it('fails when it never gets further, but not as long as it does', async () => {
    await using stuck = await serveInTurn(pieceOf(0));
    await expect(nar(stuck, { ...QUICK, retries: 2 })).rejects.toMatchObject({ code: 'NIX_CACHE_UNREACHABLE' });
    expect(stuck.requests).toHaveLength(3);
    await using slow = await serveInTurn(pieceOf(1024 * 1024));
    expect((await nar(slow, { ...QUICK, retries: 1 })).equals(NAR)).toBe(true);
  });
});

describe('a binary cache over HTTP decodes', () => {
  it.each([
    ['gzip', gzipSync(narinfo)],
    ['x-gzip', gzipSync(narinfo)],
    ['br', brotliCompressSync(narinfo)],
    ['zstd', zstdCompressSync(narinfo)],
  ])('content encoding %s, which it did not ask for', async (encoding, bytes) => {
    await using server = await serve(
      NOWHERE,
      (_, response) => !!response.writeHead(200, { 'content-encoding': encoding }).end(bytes),
    );
    expect(await openBinaryCache(server.url).pathInfo(path)).toMatchObject({ storePath: path });
  });

  it('no other, and says so', async () => {
    await using server = await serveInTurn(status(200, { 'content-encoding': 'compress' }, narinfo));
    await expect(openBinaryCache(server.url).pathInfo(path)).rejects.toMatchObject({
      code: 'NIX_CACHE_INVALID',
      message: expect.stringContaining('its content encoding is not one of gzip, br, zstd'),
    });
  });

  it('no bomb', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, 'a'));
    await using server = await serve(
      NOWHERE,
      (_, response) => !!response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb),
    );
    await expect(openBinaryCache(server.url).pathInfo(path)).rejects.toThrow('it has more than 1048576 bytes');
  });
});

it('a NAR of frames without content does not come for ever', async () => {
  const empty = Buffer.alloc(65_536);
  empty.writeUInt32LE(0x184d2a50);
  empty.writeUInt32LE(empty.length - 8, 4);
  await using server = await serve(NOWHERE, (_, response) => {
    const send = () => {
      while (!response.destroyed && response.write(empty));
    };
    response.on('drain', send);
    response.writeHead(200);
    send();
    return true;
  });
  const frames = { ...info, compression: 'zstd' } as PathInfo;
  await expect(Array.fromAsync(openBinaryCache(server.url).nar(frames))).rejects.toMatchObject({
    code: 'NIX_NAR_SIZE_MISMATCH',
    message: expect.stringContaining('much larger compressed than it should be at all'),
  });
});

describe('a binary cache over HTTP authenticates itself', () => {
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;

  async function sentBy(openWith: (url: string) => ReturnType<typeof openBinaryCache>): Promise<string | undefined> {
    let sent: string | undefined;
    await using server = await serveInTurn((request, response) => {
      sent = request.headers.authorization;
      response.writeHead(200).end(narinfo);
    });
    await openWith(server.url).pathInfo(path);
    return sent;
  }

  it('by netrc, unless the URL has a password, unless there is a token', async () => {
    await using dir = await tempDir();
    const netrcFile = join(dir.path, 'netrc');
    await writeFile(netrcFile, 'machine 127.0.0.1 login me password "p w"\n');
    const withUser = (url: string) => url.replace('//', '//you:x@');
    expect(await sentBy((url) => openBinaryCache(url, { netrcFile }))).toBe(basic('me:p w'));
    expect(await sentBy((url) => openBinaryCache(withUser(url), { netrcFile }))).toBe(basic('you:x'));
    expect(await sentBy((url) => openBinaryCache(withUser(url), { bearerToken: 'abc' }))).toBe('Bearer abc');
    expect(await sentBy((url) => openBinaryCache(url, { bearerToken: async () => 'def' }))).toBe('Bearer def');
  });

  it('never to another origin, whatever the narinfo says', async () => {
    const seen: unknown[] = [];
    await using other = await serveInTurn((request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(404).end();
    });
    const cache = openBinaryCache('http://127.0.0.1:1', { bearerToken: 'abc' });
    const elsewhere = { ...info, url: `${other.url.replace('//', '//a:b@')}/nar/x` } as PathInfo;
    await expect(Array.fromAsync(cache.nar(elsewhere))).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });
    expect(seen).toEqual([undefined]);
  });

  it('and shows no secret when it is refused', async () => {
    await using server = await serveInTurn(status(401, {}, 'who are you'));
    const secret = server.url.replace('//', '//me:s3cret@');
    const refused = await openBinaryCache(`${secret}?token=s3cret`, { bearerToken: 's3cret' })
      .pathInfo(path)
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'NIX_CACHE_REFUSED', message: expect.stringContaining('who are you') });
    expect(JSON.stringify(refused)).not.toContain('s3cret');
    expect((refused as Error).message).not.toContain('s3cret');
  });

  it('not with a netrc file that is absent or malformed', async () => {
    await using dir = await tempDir();
    const netrcFile = join(dir.path, 'netrc');
    const asking = () => openBinaryCache('http://127.0.0.1:1', { netrcFile }).info();
    await expect(asking()).rejects.toMatchObject({ code: 'NIX_NETRC_INVALID', kind: 'usage' });
    await writeFile(netrcFile, 'machine 127.0.0.1 secret s3cret');
    await expect(asking()).rejects.toThrow('line 1: a word is none of');
  });
});

describe('a binary cache over HTTP remembers', () => {
  it('what it has and what it lacks, for a while', async () => {
    await using server = await serveInTurn(status(404), found);
    const cache = openBinaryCache(server.url, { positiveTtl: 60_000, negativeTtl: 60_000 });
    expect(await cache.pathInfo(path)).toBeUndefined();
    expect(await cache.pathInfo(path)).toBeUndefined();
    expect(server.requests).toHaveLength(1);
    // Whoever is about to push wants to know what is there now.
    expect(await cache.missing([path, path])).toEqual([]);
    expect(await cache.pathInfo(path)).toMatchObject({ storePath: path });
    expect(server.requests).toHaveLength(2);
  });

  it('nothing where it is told so', async () => {
    await using server = await serveInTurn(status(404), found);
    const cache = openBinaryCache(server.url, { positiveTtl: 0, negativeTtl: 0 });
    expect(await cache.pathInfo(path)).toBeUndefined();
    expect(await cache.pathInfo(path)).toMatchObject({ storePath: path });
    await cache.pathInfo(path);
    expect(server.requests).toHaveLength(3);
  });

  it('no path whose NAR is gone', async () => {
    await using server = await serve(NOWHERE, (request, response) => {
      if (request.url === file) return !!response.writeHead(200).end(narinfo);
      return !!response.writeHead(404).end();
    });
    const cache = openBinaryCache(server.url);
    const known = await cache.pathInfo(path);
    if (known === undefined) throw new Error('unreachable');
    await expect(Array.fromAsync(cache.nar(known))).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });
    await cache.pathInfo(path);
    expect(server.requests.filter((request) => request === file)).toHaveLength(2);
  });

  it('asks for many paths at a time, but not for all', async () => {
    let open = 0;
    let most = 0;
    await using server = await serve(NOWHERE, (_, response) => {
      most = Math.max(most, ++open);
      setTimeout(() => {
        open--;
        response.writeHead(404).end();
      }, 5);
      return true;
    });
    const paths = Array.from({ length: 60 }, (_, index) => storePath(`p-${index}`));
    expect(await openBinaryCache(server.url).missing(paths)).toEqual(paths);
    expect(most).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(16);
  });
});
