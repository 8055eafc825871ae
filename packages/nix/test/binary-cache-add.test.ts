import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type BinaryCache,
  type BinaryCacheOptions,
  dumpNar,
  formatPublicKey,
  generateSecretKey,
  narHashOf,
  openBinaryCache,
  parseNarInfo,
  parseSecretKey,
  type PathInfo,
  publicKeyOf,
  requireTrust,
  type StorePath,
  storePathHash,
} from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NixFixture, nixFixture, storePath } from './nix.ts';
import { serve } from './serve.ts';

async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* parts;
}

/** A path with a NAR of its own: no real one, for nothing here unpacks it. */
function made(name: string, nar: Buffer, references: StorePath[] = []): PathInfo {
  return {
    storePath: storePath(name),
    narHash: narHashOf(createHash('sha256').update(nar).digest()),
    narSize: nar.length,
    references,
    signatures: [],
  };
}

const NAR = Buffer.alloc(300_000, 'some content that can be compressed');

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

describeEachNix('what add() puts into a binary cache', (nix) => {
  let fixture: NixFixture;
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  async function addClosure(cache: BinaryCache): Promise<void> {
    const source = openBinaryCache(`file://${await fixture.copyTo('source', 'compression=none')}`);
    for (const path of [fixture.lib, fixture.app]) {
      const info = await source.pathInfo(path);
      if (info === undefined) throw new Error(`${path} is absent`);
      expect(await cache.add(info, dumpNar(`${fixture.root}${path}`))).toBe('added');
      expect(await cache.add(info, chunks())).toBe('present');
    }
  }

  it.each([
    ['none', ''],
    ['zstd', ''],
    ['xz', '&compression-level=0'],
  ])('Nix verifies and copies, with compression %s%s, from files and over HTTP', async (compression, level) => {
    await using dir = await tempDir();
    await using server = await serve(dir.path);
    for (const [name, url] of [
      ['files', `file://${join(dir.path, 'files')}`],
      ['http', `${server.url}/http`],
    ] as const) {
      const cache = openBinaryCache(`${url}?compression=${compression}${level}&unknown=x`);
      await addClosure(cache);
      expect(await cache.missing([fixture.app, fixture.lib, storePath('absent')])).toHaveLength(1);
      const trusted = ['--option', 'trusted-public-keys', await publicKeyText(fixture)];
      await nix.run('nix', 'store', 'verify', '--store', url, ...trusted, '-r', fixture.app);
      const into = `local?root=${join(dir.path, `into-${name}`)}`;
      await nix.run('nix', '--store', into, 'copy', ...trusted, '--from', url, '--to', into, fixture.app);
      const copied = await nix.run('nix-store', '--dump', join(dir.path, `into-${name}`, fixture.app));
      expect(copied.equals(await nix.run('nix-store', '--dump', `${fixture.root}${fixture.app}`))).toBe(true);
    }
  });

  it('looks as if Nix had written it', async () => {
    await using dir = await tempDir();
    await addClosure(openBinaryCache(`file://${dir.path}?compression=none&write-nar-listing=true`));
    const theirs = await fixture.copyTo('theirs', 'compression=none&write-nar-listing=true');
    expect(await filesOf(dir.path)).toEqual(await filesOf(theirs));
    for (const file of await filesOf(theirs)) {
      const ours = await readFile(join(dir.path, file), 'utf8');
      const wanted = await readFile(join(theirs, file), 'utf8');
      if (file.endsWith('.ls')) expect(JSON.parse(ours)).toEqual(JSON.parse(wanted));
      else expect(ours).toBe(wanted);
    }
  });

  it('is signed by the keys of the options and of the URL', async () => {
    await using dir = await tempDir();
    const key = generateSecretKey('other-1');
    const cache = openBinaryCache(`file://${dir.path}?secret-key=${fixture.keyFile}`, { secretKeys: [key] });
    const info = made('signed', NAR);
    await cache.add(info, chunks(NAR));
    const added = await cache.pathInfo(info.storePath);
    if (added === undefined) throw new Error('unreachable');
    expect(added.signatures).toHaveLength(2);
    requireTrust(added, [publicKeyOf(key)]);
    requireTrust(added, [publicKeyOf(parseSecretKey(await readFile(fixture.keyFile, 'utf8')))]);
  });
});

async function publicKeyText({ keyFile }: NixFixture): Promise<string> {
  return formatPublicKey(publicKeyOf(parseSecretKey(await readFile(keyFile, 'utf8'))));
}

describe.each(['file', 'http'])('add() to a cache of %s', (kind) => {
  async function withCache(
    body: (cache: BinaryCache, folder: string) => Promise<void>,
    options: BinaryCacheOptions = {},
  ): Promise<void> {
    await using dir = await tempDir();
    await using server = await serve(dir.path);
    await body(openBinaryCache(kind === 'file' ? `file://${dir.path}` : server.url, options), dir.path);
  }

  it('makes the cache, and keeps what is known of the path', () =>
    withCache(async (cache, folder) => {
      const info = { ...made('x', NAR), deriver: storePath('x.drv'), ca: 'fixed:git:whatever' };
      await cache.add(info, chunks(NAR.subarray(0, 7), NAR.subarray(7)));
      expect(await readFile(join(folder, 'nix-cache-info'), 'utf8')).toBe('StoreDir: /nix/store\n');
      const text = await readFile(join(folder, `${storePathHash(info.storePath)}.narinfo`), 'utf8');
      const narInfo = parseNarInfo(text);
      expect(narInfo).toMatchObject(info);
      const file = await readFile(join(folder, narInfo.url));
      expect(narInfo).toMatchObject({
        compression: 'zstd',
        fileSize: file.length,
        fileHash: narHashOf(createHash('sha256').update(file).digest()),
      });
      expect(narInfo.url).toBe(`nar/${narInfo.fileHash?.slice(7)}.nar.zst`);
      expect(Buffer.concat(await Array.fromAsync(cache.nar(info))).equals(NAR)).toBe(true);
    }));

  it.each([
    ['too long', [NAR, Buffer.from('x')], 'NIX_NAR_SIZE_MISMATCH'],
    ['too short', [NAR.subarray(1)], 'NIX_NAR_SIZE_MISMATCH'],
    ['another one', [Buffer.alloc(NAR.length)], 'NIX_NAR_HASH_MISMATCH'],
  ])('leaves nothing of a NAR that is %s', (_, nar, code) =>
    withCache(async (cache, folder) => {
      for (const compression of ['none', 'zstd', 'xz']) {
        const info = made('bad', NAR);
        const adding = openBinaryCache(cache.url, { compression }).add(info, chunks(...nar), { origin: 'the test' });
        await expect(adding).rejects.toMatchObject({ code, message: expect.stringContaining('from "the test"') });
        expect(await filesOf(folder)).toEqual(['nix-cache-info']);
      }
    }),
  );

  it('passes on the failure of its source, and of a signal', () =>
    withCache(async (cache, folder) => {
      const broken = async function* () {
        yield NAR.subarray(0, 1000);
        throw new Error('the line is dead');
      };
      await expect(cache.add(made('x', NAR), broken())).rejects.toThrow(/^the line is dead$/);
      const controller = new AbortController();
      const stopped = async function* () {
        yield NAR.subarray(0, 1000);
        controller.abort(new Error('enough'));
        yield NAR.subarray(1000);
      };
      const adding = cache.add(made('x', NAR), stopped(), { signal: controller.signal });
      await expect(adding).rejects.toThrow(/^enough$/);
      expect(await filesOf(folder)).toEqual(['nix-cache-info']);
    }));

  it('records a path only when its references are there', () =>
    withCache(async (cache, folder) => {
      const lib = made('lib', Buffer.from('lib'));
      const app = made('app', NAR, [lib.storePath]);
      await expect(cache.add(app, chunks(NAR))).rejects.toMatchObject({ code: 'NIX_REFERENCE_MISSING' });
      const references = Promise.withResolvers<void>();
      const adding = cache.add(app, chunks(NAR), { references: references.promise });
      await cache.add(lib, chunks(Buffer.from('lib')));
      expect(await cache.missing([app.storePath, lib.storePath])).toEqual([app.storePath]);
      references.resolve();
      expect(await adding).toBe('added');
      const failed = cache.add(made('other', NAR), chunks(NAR), { references: Promise.reject(new Error('no lib')) });
      await expect(failed).rejects.toThrow(/^no lib$/);
      const never = { references: new Promise(() => undefined), signal: AbortSignal.timeout(50) };
      await expect(cache.add(made('late', NAR), chunks(NAR), never)).rejects.toMatchObject({ name: 'TimeoutError' });
      expect((await filesOf(folder)).filter((file) => file.endsWith('.narinfo'))).toHaveLength(2);
    }));

  it('forgets that the path was absent', () =>
    withCache(async (cache) => {
      const info = made('x', NAR);
      expect(await cache.pathInfo(info.storePath)).toBeUndefined();
      await cache.add(info, chunks(NAR));
      expect(await cache.pathInfo(info.storePath)).toMatchObject({ storePath: info.storePath });
    }));

  it('refuses what it cannot write', () =>
    withCache(async (cache, folder) => {
      const add = (settings: string) => openBinaryCache(`${cache.url}?${settings}`).add(made('x', NAR), chunks(NAR));
      await expect(add('compression=bzip2')).rejects.toThrow('expected one of none, zstd, xz');
      await expect(add('compression=zstd&compression-level=23')).rejects.toThrow('expected 1 to 22');
      await expect(add('secret-key=/nonexistent')).rejects.toMatchObject({ code: 'NIX_KEY_INVALID' });
      await writeFile(join(folder, 'nix-cache-info'), 'StoreDir: /gnu/store\n');
      await expect(add('')).rejects.toThrow('it is a cache of "/gnu/store", expected /nix/store');
    }));
});

describe('add() over HTTP', () => {
  const info = made('x', NAR);
  const quick = { retryDelay: 1 };
  const isNar = (url: string | undefined) => url?.startsWith('/nar/') === true;

  it('sends no body that is refused before, and shows what the server says', async () => {
    await using dir = await tempDir();
    let received = 0;
    const onExpect: Parameters<typeof serve>[1] = (request, response) => {
      request.on('data', (chunk: Buffer) => (received += chunk.length));
      return !!response.writeHead(413, { 'content-type': 'text/plain' }).end('at most 1 KiB\n');
    };
    await using server = await serve(dir.path, undefined, { onExpect });
    const adding = openBinaryCache(server.url, { ...quick, compression: 'none' }).add(info, chunks(NAR));
    await expect(adding).rejects.toThrow('the server answers 413: at most 1 KiB');
    expect(received).toBe(0);
    expect(await filesOf(dir.path)).toEqual(['nix-cache-info']);
  });

  it.each([401, 403])('is refused by status %d', async (status) => {
    await using dir = await tempDir();
    await using server = await serve(dir.path, (request, response) => {
      return request.method === 'PUT' && !!response.writeHead(status).end();
    });
    const adding = openBinaryCache(server.url, quick).add(info, chunks(NAR));
    await expect(adding).rejects.toMatchObject({ code: 'NIX_CACHE_REFUSED', kind: 'refused' });
  });

  it('tries again what failed before and after the body, and follows redirects of it', async () => {
    await using dir = await tempDir();
    let asked = 0;
    const onExpect: Parameters<typeof serve>[1] = (request, response) => {
      asked++;
      if (asked === 1) return !!response.writeHead(503, { 'retry-after': '0' }).end();
      if (asked === 2) return !!response.writeHead(307, { location: `/moved${request.url}` }).end();
      return false;
    };
    let failed = false;
    const handler: Parameters<typeof serve>[1] = (request, response) => {
      if (!isNar(request.url?.replace('/moved', '')) || request.method !== 'PUT' || failed) {
        request.url = request.url?.replace('/moved', '') ?? '';
        return false;
      }
      failed = true;
      request.resume().on('end', () => response.writeHead(500).end());
      return true;
    };
    await using server = await serve(dir.path, handler, { onExpect });
    const cache = openBinaryCache(server.url, quick);
    expect(await cache.add(info, chunks(NAR))).toBe('added');
    expect(asked).toBe(4);
    expect(server.log.filter((line) => line.startsWith('PUT') && line.includes('/nar/'))).toHaveLength(2);
    expect((await filesOf(dir.path)).filter((file) => file.includes('nar/'))).toHaveLength(1);
  });

  it('sends a NAR once that two paths share', async () => {
    await using dir = await tempDir();
    await using server = await serve(dir.path);
    const cache = openBinaryCache(server.url);
    await cache.add(info, chunks(NAR));
    await cache.add({ ...info, storePath: storePath('twin') }, chunks(NAR));
    expect(server.log.filter((line) => line.startsWith('PUT /nar/'))).toHaveLength(1);
    // References first, the narinfo of a path after its NAR.
    const puts = server.log.filter((line) => line.startsWith('PUT'));
    expect(puts.map((line) => line.replace(/[0-9a-z]{32,}/, '…'))).toEqual([
      'PUT /nix-cache-info',
      'PUT /nar/….nar.zst',
      'PUT /….narinfo',
      'PUT /….narinfo',
    ]);
  });

  it('goes on with a server that does not know 100 Continue', async () => {
    await using dir = await tempDir();
    await using server = await serve(dir.path, undefined, {
      onExpect: (request, response) => {
        request.resume().on('end', () => response.writeHead(201).end());
        return true;
      },
    });
    expect(await openBinaryCache(server.url).add(info, chunks(NAR))).toBe('added');
  });
});

describe('a file:// cache', () => {
  it('takes nothing for content that a crash left', async () => {
    await using dir = await tempDir();
    const cache = openBinaryCache(`file://${dir.path}`);
    const info = made('x', NAR);
    await cache.add(info, chunks(NAR));
    const files = await filesOf(dir.path);
    const left = `${storePathHash(info.storePath)}.narinfo.tmp-0011223344556677`;
    await writeFile(join(dir.path, left), 'half');
    await writeFile(join(dir.path, 'nar', '.spool-1-00'), 'half');
    expect(await cache.missing([info.storePath])).toEqual([]);
    expect(await cache.add(made('y', NAR), chunks(NAR))).toBe('added');
    expect((await filesOf(dir.path)).length).toBe(files.length + 3);
  });

  it('says that it cannot be written', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'nar'), 'a file in the place of the folder');
    const adding = openBinaryCache(`file://${dir.path}`).add(made('x', NAR), chunks(NAR));
    await expect(adding).rejects.toMatchObject({ code: 'NIX_CACHE_WRITE_FAILED' });
  });
});
