import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BinaryCache, narHashOf, openBinaryCache, type PathInfo, type StorePath } from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NixFixture, nixFixture, storePath } from './nix.ts';
import { serve } from './serve.ts';

async function infoOf(cache: BinaryCache, path: StorePath) {
  const info = await cache.pathInfo(path);
  if (info === undefined) throw new Error(`${path} is not in ${cache.name}`);
  return info;
}

async function contentOf(cache: BinaryCache, info: PathInfo): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(cache.nar(info)));
}

describeEachNix('openBinaryCache() of what `nix copy` wrote', (nix) => {
  let fixture: NixFixture;
  let wanted: Buffer;
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
    wanted = await nix.run('nix-store', '--dump', `${fixture.root}${fixture.app}`);
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  it.each(['none', 'xz', 'zstd', 'gzip', 'br', 'bzip2'])(
    'reads compression %s, from files and over HTTP',
    async (compression) => {
      const folder = await fixture.copyTo(`cache-${compression}`, `compression=${compression}`);
      await using server = await serve(folder);
      for (const url of [`file://${folder}`, server.url, `${server.url}/?priority=3`]) {
        const cache = openBinaryCache(url);
        expect(cache.url).toBe(url.replace('/?priority=3', ''));
        const priority = url.endsWith('?priority=3') ? 3 : 0;
        expect(await cache.info()).toEqual({ storeDir: '/nix/store', wantMassQuery: false, priority });
        const info = await infoOf(cache, fixture.app);
        expect(info).toMatchObject({ compression, narSize: wanted.length, references: [fixture.lib] });
        const nar = await contentOf(cache, info);
        expect(nar.equals(wanted)).toBe(true);
        expect(narHashOf(createHash('sha256').update(nar).digest())).toBe(info.narHash);
        expect(await cache.pathInfo(storePath('absent'))).toBeUndefined();
      }
    },
  );

  it('bounds a NAR by the size it was promised to have', async () => {
    for (const compression of ['none', 'xz', 'zstd', 'bzip2']) {
      const cache = openBinaryCache(
        `file://${await fixture.copyTo(`cache-${compression}`, `compression=${compression}`)}`,
      );
      const info = await infoOf(cache, fixture.app);
      let read = 0;
      const reading = async (narSize: number) => {
        read = 0;
        for await (const chunk of cache.nar({ ...info, narSize })) read += chunk.length;
      };
      await expect(reading(1000)).rejects.toMatchObject({ code: 'NIX_NAR_SIZE_MISMATCH' });
      expect(read).toBeLessThanOrEqual(1000);
      await expect(reading(info.narSize + 1)).rejects.toMatchObject({ code: 'NIX_NAR_SIZE_MISMATCH' });
    }
  });

  it('reads no file outside a file:// cache', async () => {
    const folder = await fixture.copyTo('cache-escape', 'compression=none');
    const cache = openBinaryCache(`file://${folder}`);
    const info = await infoOf(cache, fixture.app);
    for (const url of ['../key', 'file:///etc/passwd', '/etc/passwd', 'nar/../../key', 'nar/%2e%2e/%2e%2e/key']) {
      await expect(contentOf(cache, { ...info, url } as PathInfo)).rejects.toMatchObject({ code: 'NIX_CACHE_INVALID' });
    }
  });

  it('refuses a narinfo of another path', async () => {
    const folder = await fixture.copyTo('cache-swapped', 'compression=none');
    const file = (path: StorePath) => join(folder, `${path.slice(11, 43)}.narinfo`);
    await writeFile(file(fixture.app), await readFile(file(fixture.lib)));
    await expect(openBinaryCache(`file://${folder}`).pathInfo(fixture.app)).rejects.toMatchObject({
      code: 'NIX_PATH_INFO_INVALID',
    });
  });

  it('says that a NAR is gone', async () => {
    const folder = await fixture.copyTo('cache-gone', 'compression=none');
    const cache = openBinaryCache(`file://${folder}`);
    const info = await infoOf(cache, fixture.app);
    await nix.run('rm', '-r', join(folder, 'nar'));
    await expect(contentOf(cache, info)).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND', kind: 'not-found' });
  });
});

describe('openBinaryCache() over HTTP', () => {
  const path = storePath('x-1');
  const file = `/${path.slice(11, 43)}.narinfo`;
  const narinfo = `StorePath: ${path}\nURL: nar/x\nCompression: none\nNarHash: sha256:${'0'.repeat(52)}\nNarSize: 100000\n`;

  it.each([
    [404, undefined],
    [410, undefined],
    [403, undefined],
    [401, { code: 'NIX_CACHE_REFUSED', kind: 'refused' }],
    [500, { code: 'NIX_CACHE_UNREACHABLE', kind: 'unreachable' }],
    [429, { code: 'NIX_CACHE_UNREACHABLE' }],
    [400, { code: 'NIX_CACHE_INVALID' }],
    [302, { code: 'NIX_CACHE_INVALID' }],
  ])('understands status %d', async (status, error) => {
    await using server = await serve('/nonexistent', (_, response) => !!response.writeHead(status).end('sorry'));
    const asking = openBinaryCache(server.url, { retries: 0 }).pathInfo(path);
    if (error === undefined) expect(await asking).toBeUndefined();
    else await expect(asking).rejects.toMatchObject(error);
  });

  it('follows redirects, but not for ever, and sends the password to its own origin only', async () => {
    const seen: (string | undefined)[] = [];
    await using other = await serve('/nonexistent', (request, response) => {
      seen.push(request.headers.authorization);
      return !!response.writeHead(200).end(narinfo);
    });
    await using server = await serve('/nonexistent', (request, response) => {
      seen.push(request.headers.authorization);
      const location = request.url?.startsWith('/loop/') ? request.url : `${other.url}/there`;
      return !!response.writeHead(307, { location }).end();
    });
    const withPassword = server.url.replace('//', '//me:p%40ss@');
    const cache = openBinaryCache(withPassword);
    expect(cache.name).toBe(server.url);
    expect(await cache.pathInfo(path)).toMatchObject({ storePath: path });
    expect(seen).toEqual([`Basic ${Buffer.from('me:p@ss').toString('base64')}`, undefined]);
    await expect(openBinaryCache(`${server.url}/loop`).pathInfo(path)).rejects.toThrow('more than 10 redirects');
  });

  it('says that nobody is there', async () => {
    const { url } = await (async () => {
      await using server = await serve('/nonexistent');
      return server;
    })();
    await expect(openBinaryCache(url, { retries: 0 }).pathInfo(path)).rejects.toMatchObject({
      code: 'NIX_CACHE_UNREACHABLE',
      kind: 'unreachable',
      message: expect.stringContaining(`"${url}${file}"`),
    });
  });

  it('gives up on a silent server, before the answer and in the middle of it', async () => {
    await using server = await serve('/nonexistent', (request, response) => {
      if (request.url === file) response.writeHead(200).end(narinfo);
      else if (request.url === '/nar/x') response.writeHead(200).write('the beginning');
      return true;
    });
    const cache = openBinaryCache(server.url, { timeout: 150, retries: 0 });
    await expect(cache.info()).rejects.toThrow('nothing came for 150 ms');
    await expect(contentOf(cache, await infoOf(cache, path))).rejects.toThrow('nothing came for 150 ms');
  });

  it('does not take a cut connection for the end', async () => {
    await using server = await serve('/nonexistent', (request, response) => {
      if (request.url === file) return !!response.writeHead(200).end(narinfo);
      response.writeHead(200, { 'content-length': 100_000 });
      response.write('the beginning', () => response.destroy());
      return true;
    });
    const cache = openBinaryCache(server.url, { retries: 1, retryDelay: 1 });
    await expect(contentOf(cache, await infoOf(cache, path))).rejects.toMatchObject({ code: 'NIX_CACHE_UNREACHABLE' });
    expect(server.log.filter((line) => line === 'GET /nar/x')).toHaveLength(2);
  });

  it('stops when it is told to', async () => {
    await using server = await serve('/nonexistent', (request, response) => {
      if (request.url === file) response.writeHead(200).end(narinfo);
      else response.writeHead(200).write('the beginning');
      return true;
    });
    const cache = openBinaryCache(server.url);
    const controller = new AbortController();
    const reading = async () => {
      for await (const chunk of cache.nar(await infoOf(cache, path), { signal: controller.signal })) {
        expect(chunk.length).toBeGreaterThan(0);
        controller.abort(new Error('enough'));
      }
    };
    await expect(reading()).rejects.toThrow(/^enough$/);
  });

  it('does not read a text without end', async () => {
    await using server = await serve(
      '/nonexistent',
      (_, response) => !!response.writeHead(200).end(Buffer.alloc(2_000_000, 'x')),
    );
    await expect(openBinaryCache(server.url).info()).rejects.toMatchObject({ code: 'NIX_CACHE_INVALID' });
  });
});

describe('openBinaryCache()', () => {
  it.each(['', 'cache.example.org', 's3://key:secret@bucket', 'http://a:%zz@b/'])('refuses the URL %j', (url) => {
    expect(() => openBinaryCache(url)).toThrow(
      expect.objectContaining({ code: 'NIX_CACHE_URL_INVALID', kind: 'usage' }),
    );
    expect(() => openBinaryCache(url)).not.toThrow(/secret|%zz/);
  });

  it('says that a folder is no cache', async () => {
    await using dir = await tempDir();
    expect(await readdir(dir.path)).toEqual([]);
    const cache = openBinaryCache(`file://${dir.path}`);
    await expect(cache.info()).rejects.toMatchObject({ code: 'NIX_CACHE_INVALID' });
    expect(await cache.pathInfo(storePath('x'))).toBeUndefined();
  });
});
