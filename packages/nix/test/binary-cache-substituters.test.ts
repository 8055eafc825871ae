import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  narHashOf,
  type NixError,
  openBinaryCache,
  openSubstituters,
  type PathInfo,
  type StorePath,
} from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { storePath } from './nix.ts';
import { serve, type TestServer } from './serve.ts';

const NAR = Buffer.alloc(100_000, 'content');
const QUICK = { retries: 0, retryDelay: 1, negativeTtl: 0, positiveTtl: 0 };

async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* parts;
}

interface TestCache extends AsyncDisposable {
  readonly url: string;
  readonly folder: string;
  readonly server: TestServer;
}

/** A cache over HTTP with these paths, whose NARs are all the same. */
async function cacheWith(priority: number, paths: StorePath[]): Promise<TestCache> {
  const stack = new AsyncDisposableStack();
  const dir = stack.use(await tempDir());
  const server = stack.use(await serve(dir.path));
  const cache = openBinaryCache(`file://${dir.path}`, { compression: 'none' });
  for (const path of paths) await cache.add(infoOf(path), chunks(NAR));
  await writeFile(join(dir.path, 'nix-cache-info'), `StoreDir: /nix/store\nPriority: ${priority}\n`);
  return { url: server.url, folder: dir.path, server, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function infoOf(path: StorePath): PathInfo {
  const narHash = narHashOf(createHash('sha256').update(NAR).digest());
  return { storePath: path, narHash, narSize: NAR.length, references: [], signatures: [] };
}

async function unreachableUrl(): Promise<string> {
  await using server = await serve('/nonexistent');
  return server.url;
}

async function read(nar: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(nar));
}

describe('openSubstituters()', () => {
  const path = storePath('x');
  const other = storePath('other');

  it('asks the cache of the lowest priority first, the next one for what it lacks', async () => {
    await using low = await cacheWith(10, [path]);
    await using high = await cacheWith(40, [path, other]);
    const source = openSubstituters([high.url, low.url], QUICK);
    expect(source.name).toBe(`${high.url}, ${low.url}`);
    expect(await source.pathInfo(path)).toMatchObject({ storePath: path });
    expect(high.server.requests).toEqual(['/nix-cache-info']);
    const info = await source.pathInfo(other);
    if (info === undefined) throw new Error('unreachable');
    expect((await read(source.nar(info))).equals(NAR)).toBe(true);
    expect(low.server.requests.filter((request) => request.startsWith('/nar'))).toEqual([]);
    expect(await source.pathInfo(storePath('absent'))).toBeUndefined();
  });

  it('takes the priority of the URL before that of the cache, and the order of the URLs where they are equal', async () => {
    await using first = await cacheWith(10, [path]);
    await using second = await cacheWith(40, [path]);
    await openSubstituters([first.url, `${second.url}?priority=5`], QUICK).pathInfo(path);
    expect(first.server.requests).toEqual(['/nix-cache-info']);
    await openSubstituters([first.url, `${second.url}?priority=10`], QUICK).pathInfo(path);
    expect(second.server.requests.filter((request) => request.endsWith('.narinfo'))).toHaveLength(1);
  });

  it('passes over a cache that cannot be reached, says so once, and leaves it alone for a while', async () => {
    await using good = await cacheWith(40, [path]);
    const warnings: NixError[] = [];
    const down = await unreachableUrl();
    const source = openSubstituters([down, good.url], { ...QUICK, onWarning: (error) => warnings.push(error) });
    expect(await source.pathInfo(path)).toMatchObject({ storePath: path });
    expect(await source.pathInfo(path)).toMatchObject({ storePath: path });
    expect(warnings).toMatchObject([{ code: 'NIX_CACHE_UNREACHABLE', message: expect.stringContaining(down) }]);
    // It might have the path: nobody can say that it is absent.
    await expect(source.pathInfo(other)).rejects.toMatchObject({ code: 'NIX_CACHE_UNREACHABLE' });
  });

  it('asks a cache again after its pause', async () => {
    let isUp = false;
    await using server = await serve('/nonexistent', (request, response) => {
      if (!isUp) return !!response.writeHead(503).end();
      return !!response.writeHead(request.url === '/nix-cache-info' ? 200 : 404).end('StoreDir: /nix/store\n');
    });
    const source = openSubstituters([server.url], { ...QUICK, pause: 0 });
    await expect(source.pathInfo(path)).rejects.toThrow('answers 503');
    isUp = true;
    expect(await source.pathInfo(path)).toBeUndefined();
  });

  it('tells what each one said when all fail', async () => {
    await using none = await serve('/nonexistent');
    const down = await unreachableUrl();
    const asking = openSubstituters([down, none.url], QUICK).pathInfo(path);
    await expect(asking).rejects.toMatchObject({
      code: 'NIX_CACHE_UNREACHABLE',
      message: expect.stringMatching(/from any of 2 binary caches: .*ECONNREFUSED.*; .*it has no nix-cache-info/),
    });
  });

  it('passes over a malformed narinfo', async () => {
    await using bad = await cacheWith(10, [path]);
    await using good = await cacheWith(40, [path]);
    await writeFile(join(bad.folder, `${path.slice(11, 43)}.narinfo`), 'nonsense');
    const warnings: NixError[] = [];
    const source = openSubstituters([bad.url, good.url], { ...QUICK, onWarning: (error) => warnings.push(error) });
    expect(await source.pathInfo(path)).toMatchObject({ storePath: path });
    expect(warnings).toMatchObject([{ code: 'NIX_NARINFO_INVALID' }]);
  });

  it('takes the NAR of another cache where the first one has lost it', async () => {
    await using first = await cacheWith(10, [path]);
    await using second = await cacheWith(40, [path]);
    const source = openSubstituters([first.url, second.url], QUICK);
    const info = await source.pathInfo(path);
    if (info === undefined) throw new Error('unreachable');
    await rm(join(first.folder, 'nar'), { recursive: true });
    expect((await read(source.nar(info))).equals(NAR)).toBe(true);
    await rm(join(second.folder, 'nar'), { recursive: true });
    await expect(read(source.nar(info))).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: expect.stringMatching(new RegExp(`${first.url}.*; .*${second.url}`)),
    });
  });

  it('takes no other NAR for the path', async () => {
    await using first = await cacheWith(10, [path]);
    await using second = await cacheWith(40, [path]);
    const source = openSubstituters([first.url, second.url], QUICK);
    const info = await source.pathInfo(path);
    if (info === undefined) throw new Error('unreachable');
    await rm(join(first.folder, 'nar'), { recursive: true });
    const file = join(second.folder, `${path.slice(11, 43)}.narinfo`);
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/^NarHash: .*$/m, `NarHash: sha256:${'0'.repeat(52)}`));
    await expect(read(source.nar(info))).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });
  });

  it('does not mix the NARs of two caches', async () => {
    await using first = await cacheWith(10, [path]);
    await using second = await cacheWith(40, [path]);
    const source = openSubstituters([first.url, second.url], QUICK);
    const info = await source.pathInfo(path);
    if (info === undefined) throw new Error('unreachable');
    const file = join(first.folder, info.url);
    await writeFile(file, NAR.subarray(0, 50_000));
    await expect(read(source.nar(info))).rejects.toMatchObject({ code: 'NIX_NAR_SIZE_MISMATCH' });
    expect(second.server.requests.filter((request) => request.startsWith('/nar'))).toEqual([]);
  });

  it('refuses a malformed URL at once', () => {
    expect(() => openSubstituters(['https://cache.example.org', 'nonsense'])).toThrow(
      expect.objectContaining({ code: 'NIX_CACHE_URL_INVALID' }),
    );
  });
});
