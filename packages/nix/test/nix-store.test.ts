import { randomBytes } from 'node:crypto';
import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NixStore, type NixStoreReader, parseStorePath, queryClosure } from '@nex-nix/nix';
import { describeEachNix, startProcess, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type NixFixture, nixFixture, storePath } from './nix.ts';

const READ_CHILD = fileURLToPath(new URL('read-child.ts', import.meta.url));

describeEachNix('NixStore', (nix) => {
  let fixture: NixFixture;
  let store: NixStore;
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
    store = new NixStore({ root: fixture.root, env: nix.env });
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  it.each(['database', 'command'] as const)('tells what Nix knows of a path by its %s', async (reader) => {
    const store = new NixStore({ root: fixture.root, env: nix.env, reader });
    const info = await store.pathInfo(fixture.lib);
    expect(info).toEqual({
      storePath: fixture.lib,
      narHash: expect.stringMatching(/^sha256:[0-9a-z]{52}$/),
      narSize: expect.any(Number),
      references: [fixture.lib],
      deriver: expect.stringMatching(/^\/nix\/store\/.*-x\.drv$/),
      signatures: [expect.stringMatching(/^test-1:/)],
    });
    expect(await store.pathInfo(storePath('absent'))).toBeUndefined();
  });

  it.each(['database', 'command'] as const)('lists closures by its %s, references first', async (reader) => {
    const store = new NixStore({ root: fixture.root, env: nix.env, reader });
    expect((await queryClosure(store, [fixture.app])).map((info) => info.storePath)).toEqual([
      fixture.lib,
      fixture.app,
    ]);
    expect(await queryClosure(store, [])).toEqual([]);
    const absent = storePath('absent');
    await expect(queryClosure(store, [fixture.app, absent])).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: `Cannot find "${absent}": it is not in the Nix store in ${fixture.root}`,
      hint: `Build or fetch it with: nix-store --realise ${absent}`,
    });
  });

  it('reads NARs from disk', async () => {
    const info = await store.pathInfo(fixture.app);
    if (info === undefined) throw new Error('it is gone');
    const nar = Buffer.concat(await Array.fromAsync(store.nar(info)));
    expect(nar.equals(await nix.run('nix-store', '--dump', `${fixture.root}${fixture.app}`))).toBe(true);
    expect(nar).toHaveLength(info.narSize);
  });

  it('says that there is no Nix', async () => {
    const none = new NixStore({ reader: 'command', command: join(fixture.dir, 'no-nix') });
    await expect(none.pathInfo(fixture.app)).rejects.toMatchObject({
      code: 'NIX_COMMAND_MISSING',
      kind: 'not-found',
      hint: expect.stringContaining('apt-get install nix-bin'),
    });
  });

  it('passes on what Nix complains of, and stops when it is told to', async () => {
    const broken = new NixStore({ root: join(fixture.keyFile, 'x'), env: nix.env });
    await expect(broken.pathInfo(fixture.app)).rejects.toMatchObject({ code: 'NIX_COMMAND_FAILED' });
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(store.pathInfo(fixture.app, { signal })).rejects.toThrow('enough');
    await expect(store.closure([fixture.app], { signal })).rejects.toThrow('enough');
  });

  it('reads the same from the database as Nix does, content addresses and derivations included', async () => {
    const file = join(fixture.dir, 'source');
    await writeFile(file, 'content');
    const add = async (...args: string[]) =>
      parseStorePath(String(await nix.run('nix-store', '--store', fixture.store, ...args, file)).trim());
    const builder = '{ name = "d"; system = "x"; builder = "/bin/sh"; args = [ (builtins.toFile "f" "y") ]; }';
    const expression = `derivation ${builder}`;
    const drv = String(await nix.run('nix-instantiate', '--store', fixture.store, '--expr', expression)).trim();
    const roots = [
      fixture.app,
      await add('--add'),
      await add('--add-fixed', 'sha1'),
      await add('--add-fixed', '--recursive', 'sha512'),
      // The command of an older Nix takes a derivation for its outputs.
      ...(nix.isAtLeast('2.15') ? [parseStorePath(drv)] : []),
    ];
    const read = async (reader: NixStoreReader) =>
      queryClosure(new NixStore({ root: fixture.root, env: nix.env, reader }), roots);
    const infos = await read('database');
    expect(infos).toEqual(await read('command'));
    expect(infos.filter(({ ca }) => ca !== undefined)).toHaveLength(roots.length === 5 ? 5 : 3);
    expect(infos).toHaveLength(roots.length === 5 ? 7 : 5);
  });

  it("finds the database of the machine's own store where NIX_STATE_DIR says", async () => {
    const env = { NIX_STATE_DIR: join(fixture.root, 'nix/var/nix') };
    expect(await new NixStore({ env, reader: 'database' }).pathInfo(fixture.app)).toEqual(
      await store.pathInfo(fixture.app),
    );
  });

  it('reads the database while Nix writes to it', async () => {
    const files = Array.from({ length: 8 }, (_, n) => join(fixture.dir, `file-${n}`));
    for (const file of files) await writeFile(file, file);
    const written = new AbortController();
    const writing = nix.run('nix-store', '--store', fixture.store, '--add', ...files).finally(() => written.abort());
    const reader = new NixStore({ root: fixture.root, reader: 'database' });
    const before = await reader.closure([fixture.app]);
    let reads = 0;
    for (; !written.signal.aborted; reads++) {
      expect(await reader.closure([fixture.app])).toEqual(before);
      await setImmediate();
    }
    expect(reads).toBeGreaterThan(0);
    const added = String(await writing)
      .trim()
      .split('\n')
      .map(parseStorePath);
    expect(await reader.closure(added)).toHaveLength(files.length);
  });

  it('reads the database as a user who may only read, where Nix has it open, else says that it cannot', async () => {
    // Without a write-ahead log there, somebody would have to make one.
    const root = join(fixture.dir, 'copy');
    await copyDatabase(fixture.root, root);
    await chmod(fixture.dir, 0o755);
    const ask = async () => {
      const command = ['--conditions=nexsrc', READ_CHILD, root, fixture.app];
      await using child = startProcess(process.execPath, command, { uid: 65534, gid: 65534 });
      await child.exited;
      return child.stdout();
    };
    expect(await ask()).toBe('NIX_DATABASE_UNUSABLE');
    using _open = openDatabase(root);
    expect(await ask()).toBe(String((await store.pathInfo(fixture.app))?.narSize));
  });

  it('waits for a database that is locked, until it is told to stop', async () => {
    const root = join(fixture.dir, 'locked');
    await copyDatabase(fixture.root, root);
    const locked = new NixStore({ root, reader: 'database' });
    {
      using db = openDatabase(root);
      db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
      const signal = AbortSignal.timeout(100);
      await expect(locked.pathInfo(fixture.app, { signal })).rejects.toThrow('timeout');
      const waiting = locked.pathInfo(fixture.app);
      setTimeout(() => db.close(), 100);
      expect(await waiting).toEqual(await store.pathInfo(fixture.app));
      db.open();
    }
  });

  it.each<[string, (db: string) => Promise<void>, RegExp]>([
    ['of another schema', (db) => writeFile(join(db, 'schema'), '11'), /its schema is "11", expected "10"$/],
    ['that is damaged', (db) => writeFile(join(db, 'db.sqlite'), randomBytes(9000)), /file is not a database$/],
    ['without tables', (db) => writeFile(join(db, 'db.sqlite'), ''), /no such table: ValidPaths$/],
    ['that is not there', (db) => rm(db, { recursive: true }), /ENOENT/],
  ])('asks Nix instead of a database %s, and says why when it may not', async (_, damage, why) => {
    await using dir = await tempDir();
    await copyDatabase(fixture.root, dir.path);
    await damage(join(dir.path, 'nix/var/nix/db'));
    const strict = new NixStore({ root: dir.path, reader: 'database' });
    const refusal = { code: 'NIX_DATABASE_UNUSABLE', message: expect.stringMatching(why) };
    await expect(strict.pathInfo(fixture.app)).rejects.toMatchObject(refusal);
    await expect(strict.closure([fixture.app])).rejects.toMatchObject(refusal);
    const lenient = new NixStore({ root: dir.path, command: join(fixture.dir, 'no-nix') });
    await expect(lenient.pathInfo(fixture.app)).rejects.toMatchObject({ code: 'NIX_COMMAND_MISSING' });
  });
});

async function copyDatabase(from: string, to: string): Promise<void> {
  const folder = join(to, 'nix/var/nix/db');
  await mkdir(folder, { recursive: true });
  for (const name of ['db.sqlite', 'schema']) await copyFile(join(from, 'nix/var/nix/db', name), join(folder, name));
}

/** With its write-ahead log, as Nix has it. */
function openDatabase(root: string): DatabaseSync {
  const db = new DatabaseSync(join(root, 'nix/var/nix/db/db.sqlite'));
  db.exec('PRAGMA journal_mode = WAL; SELECT count(*) FROM ValidPaths');
  return db;
}
