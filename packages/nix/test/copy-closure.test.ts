import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  copyClosure,
  type CopyProgress,
  formatPublicKey,
  generateSecretKey,
  LocalStore,
  NixStore,
  openBinaryCache,
  type PathInfo,
  type PathSource,
  publicKeyOf,
  queryClosure,
  signPathInfo,
  storePathBaseName,
  storePathHash,
} from '@nex-nix/nix';
import { describeEachNix, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NixFixture, nixFixture, storePath } from './nix.ts';
import { serve } from './serve.ts';

const CHILD = fileURLToPath(new URL('import-child.ts', import.meta.url));

describeEachNix('copyClosure()', (nix) => {
  let signed: NixFixture;
  let unsigned: NixFixture;
  beforeAll(async () => {
    [signed, unsigned] = await Promise.all([nixFixture(nix, { sign: true }), nixFixture(nix, { sign: false })]);
  });
  afterAll(() => Promise.all([signed[Symbol.asyncDispose](), unsigned[Symbol.asyncDispose]()]));

  const sourceOf = (fixture: NixFixture) => new NixStore({ root: fixture.root, env: nix.env });
  const contentOf = async (path: string) => (await nix.run('nix-store', '--dump', path)).toString('base64');

  it('copies a closure out of a Nix store, references first, with progress; a second time nothing', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const progress: CopyProgress[] = [];
    const options = { trustedKeys: [signed.publicKey], onProgress: (step: CopyProgress) => void progress.push(step) };
    const infos = await queryClosure(sourceOf(signed), [signed.app]);
    const narBytes = infos.reduce((sum, info) => sum + info.narSize, 0);
    expect(await copyClosure(sourceOf(signed), store, [signed.app], options)).toEqual({
      copied: [signed.lib, signed.app],
      narBytes,
    });
    expect(progress.at(-1)).toEqual({
      storePath: signed.app,
      copiedPaths: 2,
      totalPaths: 2,
      copiedBytes: narBytes,
      totalBytes: narBytes,
    });
    expect(await store.closure([signed.app])).toEqual(infos);
    for (const path of [signed.lib, signed.app]) {
      expect(await contentOf(store.realPath(path))).toBe(await contentOf(`${signed.root}${path}`));
    }
    const unreachable = openBinaryCache('http://127.0.0.1:1');
    expect(await copyClosure(unreachable, store, [signed.app], options)).toEqual({ copied: [], narBytes: 0 });
  });

  it('fetches not a byte when one path is not trusted', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const folder = await unsigned.copyTo('cache', 'compression=none');
    await using server = await serve(folder);
    const copying = copyClosure(openBinaryCache(server.url), store, [unsigned.app], {
      trustedKeys: [unsigned.publicKey],
    });
    await expect(copying).rejects.toMatchObject({
      code: 'NIX_PATH_UNTRUSTED',
      kind: 'refused',
      message: expect.stringMatching(/it is not signed; trusted are "test-1"$/),
    });
    expect(server.requests.filter((path) => path.startsWith('/nar/'))).toEqual([]);
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
  });

  it('does not run on with paths whose key is trusted no longer', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    await copyClosure(sourceOf(signed), store, [signed.app], { trustedKeys: [signed.publicKey] });
    await expect(
      copyClosure(sourceOf(signed), store, [signed.app], { trustedKeys: [unsigned.publicKey] }),
    ).rejects.toMatchObject({
      code: 'NIX_PATH_UNTRUSTED',
    });
  });

  it('imports nothing of a damaged NAR, and says which and from where', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const folder = await signed.copyTo('damaged', 'compression=none');
    const cache = openBinaryCache(`file://${folder}`);
    const info = await cache.pathInfo(signed.lib);
    const file = join(folder, info?.url ?? '');
    const bytes = await readFile(file);
    bytes[350_000] = (bytes[350_000] ?? 0) ^ 1;
    await writeFile(file, bytes);
    await expect(copyClosure(cache, store, [signed.app], { trustedKeys: [signed.publicKey] })).rejects.toMatchObject({
      code: 'NIX_NAR_HASH_MISMATCH',
      message: expect.stringContaining(
        `Cannot import "${signed.lib}" from "file://${folder}": its NAR hash is sha256:`,
      ),
    });
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
  });

  it('copies only what is missing', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const folder = await signed.copyTo('partly', 'compression=zstd');
    await using server = await serve(folder);
    const cache = openBinaryCache(server.url);
    const options = { trustedKeys: [signed.publicKey], concurrency: 1 };
    expect((await copyClosure(cache, store, [signed.lib], options)).copied).toEqual([signed.lib]);
    const infos = await queryClosure(cache, [signed.app]);
    server.requests.length = 0;
    expect((await copyClosure(cache, store, [signed.app], { ...options, infos })).copied).toEqual([signed.app]);
    expect(server.requests).toEqual([expect.stringMatching(/^\/nar\//)]);
  });

  it('brings content while what it refers to is still on its way, and records it after that', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const real = sourceOf(signed);
    const appRead = Promise.withResolvers<void>();
    const source: PathSource = {
      name: 'reversed',
      pathInfo: (path) => real.pathInfo(path),
      async *nar(info, options) {
        if (info.storePath === signed.lib) await appRead.promise;
        yield* real.nar(info, options);
        if (info.storePath === signed.app) appRead.resolve();
      },
    };
    const { copied } = await copyClosure(source, store, [signed.app], { trustedKeys: [signed.publicKey] });
    expect(copied).toEqual([signed.lib, signed.app]);
  });

  it('goes on where it failed', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const real = sourceOf(signed);
    const asked: string[] = [];
    const source = (failing?: string): PathSource => ({
      name: 'moody',
      pathInfo: (path) => real.pathInfo(path),
      async *nar(info, options) {
        asked.push(info.storePath);
        for await (const chunk of real.nar(info, options)) {
          yield chunk;
          if (info.storePath === failing) throw new Error('the line is dead');
        }
      },
    });
    const options = { trustedKeys: [signed.publicKey], concurrency: 1 };
    await expect(copyClosure(source(signed.app), store, [signed.app], options)).rejects.toThrow('the line is dead');
    expect(await store.missing([signed.lib, signed.app])).toEqual([signed.app]);
    expect((await copyClosure(source(), store, [signed.app], options)).copied).toEqual([signed.app]);
    expect(asked).toEqual([signed.lib, signed.app, signed.app]);
  });

  it('copies into a binary cache, which real Nix then copies from', async () => {
    await using dir = await tempDir();
    const url = `file://${join(dir.path, 'cache')}`;
    const key = generateSecretKey('ours-1');
    const cache = openBinaryCache(url, { secretKeys: [key] });
    const source = sourceOf(unsigned);
    await expect(copyClosure(source, cache, [unsigned.app], { trustedKeys: [] })).rejects.toMatchObject({
      code: 'NIX_PATH_UNTRUSTED',
    });
    const unchecked = { trustedKeys: 'unchecked' } as const;
    expect((await copyClosure(source, cache, [unsigned.app], unchecked)).copied).toEqual([unsigned.lib, unsigned.app]);
    expect((await copyClosure(source, cache, [unsigned.app], unchecked)).copied).toEqual([]);
    const root = join(dir.path, 'root');
    const keys = ['--option', 'trusted-public-keys', formatPublicKey(publicKeyOf(key))];
    await nix.run('nix', ...keys, 'copy', '--from', url, '--to', `local?root=${root}`, unsigned.app);
    expect(await contentOf(`${root}${unsigned.app}`)).toBe(await contentOf(`${unsigned.root}${unsigned.app}`));

    // What a cache has lost is copied again, although it has the root.
    await rm(join(dir.path, 'cache', `${storePathHash(unsigned.lib)}.narinfo`));
    const fresh = openBinaryCache(url, { secretKeys: [key] });
    expect((await copyClosure(source, fresh, [unsigned.app], unchecked)).copied).toEqual([unsigned.lib]);
  });

  it('stops the others when one fails, and refuses infos that are not a closure', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const real = sourceOf(signed);
    const infos = await queryClosure(real, [signed.app]);
    let stopped = 0;
    const names = Array.from({ length: 3 }, (_, n) => storePath(`p${n}`));
    const [lib] = infos as [PathInfo, PathInfo];
    const stuck: PathSource = {
      name: 'stuck',
      pathInfo: async () => undefined,
      async *nar(info, { signal } = {}) {
        if (info.storePath === names[0]) throw new Error('broken');
        const aborted = Promise.withResolvers<never>();
        signal?.addEventListener('abort', () => aborted.reject(signal.reason));
        try {
          yield await aborted.promise;
        } finally {
          stopped++;
        }
      },
    };
    const key = generateSecretKey('k');
    const fakes = names.map((name) => {
      const info = { ...lib, storePath: name, references: [], signatures: [] };
      return { ...info, signatures: [signPathInfo(info, key)] };
    });
    const options = { trustedKeys: [publicKeyOf(key)] };
    await expect(copyClosure(stuck, store, names, { ...options, infos: fakes })).rejects.toThrow('broken');
    expect(stopped).toBe(2);
    await expect(copyClosure(real, store, [signed.app], { ...options, infos: infos.slice(1) })).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
    });
  });

  it('reads on while what was read waits for its references, but not without end', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const real = sourceOf(signed);
    const [lib] = (await queryClosure(real, [signed.lib])) as [PathInfo];
    const key = generateSecretKey('k');
    const first = storePath('p0');
    const names = [first, ...Array.from({ length: 99 }, (_, n) => storePath(`p${n + 1}`))];
    const infos = names.map((name) => {
      const info = { ...lib, storePath: name, references: name === first ? [] : [first], signatures: [] };
      return { ...info, signatures: [signPathInfo(info, key)] };
    });
    const options = { trustedKeys: [publicKeyOf(key)], concurrency: 2, infos };
    let begun = 0;
    let read = 0;
    const release = Promise.withResolvers<void>();
    const source: PathSource = {
      name: 'slow',
      pathInfo: async () => undefined,
      async *nar(info, narOptions) {
        begun++;
        if (info.storePath === first) await release.promise;
        yield* real.nar(lib, narOptions);
        read++;
      },
    };
    const copying = copyClosure(source, store, names, options);
    await waitFor('31 of them to be read', () => read === 31);
    // One too many would begin now.
    await setImmediate();
    expect([begun, (await store.missing(names)).length]).toEqual([32, 100]);
    release.resolve();
    expect((await copying).copied).toHaveLength(100);
  });

  it('lets become valid what was read when another path fails', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const real = sourceOf(signed);
    const [lib] = (await queryClosure(real, [signed.lib])) as [PathInfo];
    const key = generateSecretKey('k');
    const [base, user, broken] = [storePath('base'), storePath('user'), storePath('broken')];
    const names = [base, user, broken];
    const infos = names.map((name) => {
      const info = { ...lib, storePath: name, references: name === user ? [base] : [], signatures: [] };
      return { ...info, signatures: [signPathInfo(info, key)] };
    });
    const fails = Promise.withResolvers<void>();
    const source: PathSource = {
      name: 'moody',
      pathInfo: async () => undefined,
      async *nar(info, narOptions) {
        if (info.storePath === broken) {
          await fails.promise;
          throw new Error('the line is dead');
        }
        yield* real.nar(lib, narOptions);
        // Its reader has it all now, and nothing of it is valid.
        if (info.storePath === base) fails.resolve();
      },
    };
    const options = { trustedKeys: [publicKeyOf(key)], infos };
    await expect(copyClosure(source, store, [user, broken], options)).rejects.toThrow('the line is dead');
    expect(await store.missing(names)).toEqual([broken]);
  });

  describe('by several processes', () => {
    const child = (dir: string, url: string, pause = 0) =>
      startProcess(process.execPath, [
        '--conditions=nexsrc',
        CHILD,
        dir,
        url,
        signed.app,
        formatPublicKey(signed.publicKey),
        String(pause),
      ]);

    it('works at the same time', async () => {
      await using dir = await tempDir();
      const url = `file://${await signed.copyTo('shared', 'compression=none')}`;
      const children = [child(dir.path, url, 1), child(dir.path, url, 1), child(dir.path, url, 1)];
      for (const running of children) {
        await using owned = running;
        expect(await owned.exited, owned.output()).toEqual({ code: 0, signal: null });
      }
      await using store = await LocalStore.open({ dir: dir.path });
      expect(await store.missing([signed.app, signed.lib])).toEqual([]);
      expect(await contentOf(store.realPath(signed.app))).toBe(await contentOf(`${signed.root}${signed.app}`));
      expect((await readdir(join(dir.path, 'tmp'))).filter((name) => !name.endsWith('.lock'))).toHaveLength(1);
    });

    it('leaves nothing, or whole paths, of one that is killed, and lets the others be', async () => {
      await using dir = await tempDir();
      const url = `file://${await signed.copyTo('killed', 'compression=none')}`;
      // One after the other, and slow enough that both are at it when one is killed, however busy the machine is.
      await using victim = child(dir.path, url, 5000);
      await waitFor('the first import to begin', () => victim.output().includes('importing'));
      await using alive = child(dir.path, url, 500);
      await waitFor('the second import to begin', () => alive.output().includes('importing'));
      victim.kill('SIGKILL');
      await victim.exited;
      expect(await readdir(join(dir.path, 'tmp'))).toHaveLength(4);
      {
        await using store = await LocalStore.open({ dir: dir.path });
        const tmp = await readdir(join(dir.path, 'tmp'));
        // Its own and that of the one alive, each a folder and a lock.
        expect(tmp).toHaveLength(4);
        const inStore = await readdir(join(dir.path, 'nix/store'));
        for (const path of [signed.lib, signed.app]) {
          expect(await store.has(path)).toBe(inStore.includes(storePathBaseName(path)));
        }
      }
      expect(await alive.exited, alive.output()).toEqual({ code: 0, signal: null });
      expect(await readdir(join(dir.path, 'tmp'))).toEqual([]);
      await using store = await LocalStore.open({ dir: dir.path });
      const { copied } = await copyClosure(openBinaryCache(url), store, [signed.app], {
        trustedKeys: [signed.publicKey],
      });
      expect(copied).toEqual([]);
      for (const info of await store.closure([signed.app])) {
        expect(await contentOf(store.realPath(info.storePath))).toBe(
          await contentOf(`${signed.root}${info.storePath}`),
        );
      }
    });
  });
});
