import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import {
  type DamagedPath,
  dumpNar,
  LocalStore,
  narHashOf,
  type PathInfo,
  type StorePath,
  storePathBaseName,
} from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { contentAddressedPath, formatContentAddress } from '../src/formats/content-address.ts';
import { removeTree } from '../src/nar/remove-tree.ts';
import { storePath } from './nix.ts';
import { addAll, bytes, describeNar, queryStore, sample } from './sample-path.ts';

/** Everything in the folder of a store that is neither the database nor a valid path. */
async function leftovers(store: { dir: string }, valid: StorePath[] = []): Promise<string[]> {
  const names = new Set(valid.map(storePathBaseName));
  const inStore = (await readdir(join(store.dir, 'nix/store'))).filter((name) => !names.has(name));
  return [...inStore, ...(await readdir(join(store.dir, 'tmp')))];
}

describe('LocalStore', () => {
  it('keeps what is added to it', async () => {
    await using dir = await tempDir();
    const lib = await sample('lib');
    const app = await sample('app', [lib.info.storePath]);
    const info: PathInfo = {
      ...app.info,
      references: [...app.info.references, app.info.storePath].toSorted(),
      deriver: storePath('x.drv'),
      signatures: ['k:x'],
    };
    {
      await using store = await LocalStore.open({ dir: join(dir.path, 'store') });
      expect(await store.add(lib.info, bytes(lib.nar))).toBe('added');
      expect(await store.add(info, bytes(app.nar))).toBe('added');
      expect(await store.add(info, bytes())).toBe('present');
    }
    await using store = await LocalStore.open({ dir: join(dir.path, 'store') });
    expect(await store.has(info.storePath)).toBe(true);
    expect(await store.pathInfo(info.storePath)).toEqual(info);
    expect(await store.closure([info.storePath])).toEqual([lib.info, info]);
    expect(Buffer.concat(await Array.fromAsync(store.nar(info))).equals(app.nar)).toBe(true);
    const other = storePath('other');
    expect(await store.missing([other, info.storePath, other])).toEqual([other]);
    expect(await store.pathInfo(other)).toBeUndefined();
    await expect(store.closure([other])).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });

    const program = join(store.realPath(info.storePath), 'bin/program');
    expect((await stat(program)).mode & 0o777).toBe(0o555);
    const folder = await stat(store.realPath(info.storePath));
    expect([folder.mode & 0o777, folder.mtimeMs]).toEqual([0o555, 1000]);
  });

  it.each<[string, (sample: { info: PathInfo; nar: Buffer }) => { info: PathInfo; nar: Buffer }, string]>([
    ['a flipped bit', ({ info, nar }) => ({ info, nar: flip(nar, 500) }), 'NIX_NAR_HASH_MISMATCH'],
    ['a broken structure', ({ info, nar }) => ({ info, nar: flip(nar, 10) }), 'NIX_NAR_INVALID'],
    ['a NAR cut off', ({ info, nar }) => ({ info, nar: nar.subarray(0, -16) }), 'NIX_NAR_INVALID'],
    ['bytes at the end', ({ info, nar }) => ({ info, nar: Buffer.concat([nar, nar]) }), 'NIX_NAR_SIZE_MISMATCH'],
    [
      'a size too large',
      ({ info, nar }) => ({ info: { ...info, narSize: info.narSize + 8 }, nar }),
      'NIX_NAR_SIZE_MISMATCH',
    ],
    ['a size too small', ({ info, nar }) => ({ info: { ...info, narSize: 1000 }, nar }), 'NIX_NAR_SIZE_MISMATCH'],
    [
      'a reference that is not there',
      ({ info, nar }) => ({ info: { ...info, references: [storePath('gone')] }, nar }),
      'NIX_REFERENCE_MISSING',
    ],
  ])('imports nothing of %s', async (_, damage, code) => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const { info, nar } = damage(await sample('x'));
    await expect(store.add(info, bytes(nar.subarray(0, 300), nar.subarray(300)))).rejects.toMatchObject({ code });
    expect(await store.has(info.storePath)).toBe(false);
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
  });

  it('names path, source and both hashes when they differ', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const { info, nar } = await sample('x');
    const wanted = narHashOf(Buffer.alloc(32));
    const adding = store.add({ ...info, narHash: wanted }, bytes(nar), { origin: 'http://cache' });
    await expect(adding).rejects.toThrow(
      `Cannot import "${info.storePath}" from "http://cache": its NAR hash is ${info.narHash}, expected ${wanted}`,
    );
  });

  it('verifies the content that a content address promises', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: join(dir.path, 'store') });
    const file = join(dir.path, 'file');
    await writeFile(file, 'good');
    const good = Buffer.concat(await Array.fromAsync(dumpNar(file)));
    await chmod(file, 0o755);
    const executable = Buffer.concat(await Array.fromAsync(dumpNar(file)));
    await writeFile(file, 'evil');
    await chmod(file, 0o644);
    const evil = Buffer.concat(await Array.fromAsync(dumpNar(file)));
    for (const method of ['flat', 'text'] as const) {
      const ca = { method, algorithm: 'sha256' as const, digest: createHash('sha256').update('good').digest() };
      const path = contentAddressedPath(ca, 'file');
      const infoOf = (nar: Buffer): PathInfo => ({ ...describeNar(path, nar).info, ca: formatContentAddress(ca) });
      for (const bad of [evil, executable]) {
        await expect(store.add(infoOf(bad), bytes(bad))).rejects.toMatchObject({ code: 'NIX_CONTENT_MISMATCH' });
      }
      expect(await store.add(infoOf(good), bytes(good))).toBe('added');
    }
  });

  it('imports a path once when it is added twice at the same time', async () => {
    await using dir = await tempDir();
    await using one = await LocalStore.open({ dir: dir.path });
    await using two = await LocalStore.open({ dir: dir.path });
    const { info, nar } = await sample('x');
    const outcomes = await Promise.all([one, two, one].map((store) => store.add(info, bytes(nar))));
    expect(outcomes.toSorted()).toEqual(['added', 'present', 'present']);
    expect(await two.pathInfo(info.storePath)).toEqual(info);
  });

  it('waits for imports when it is closed, and takes none afterwards', async () => {
    await using dir = await tempDir();
    const store = await LocalStore.open({ dir: dir.path });
    const { info, nar } = await sample('x');
    const waiting = Promise.withResolvers<void>();
    const endless = async function* () {
      yield nar.subarray(0, 500);
      waiting.resolve();
      await new Promise(() => undefined);
    };
    const adding = store.add(info, endless());
    const outcome = expect(adding).rejects.toMatchObject({ code: 'NIX_STORE_CLOSED' });
    await waiting.promise;
    await store[Symbol.asyncDispose]();
    await outcome;
    await store[Symbol.asyncDispose]();
    expect(await leftovers({ dir: dir.path })).toEqual([]);
    await expect(store.has(info.storePath)).rejects.toMatchObject({ code: 'NIX_STORE_CLOSED' });
    await expect(store.add(info, bytes(nar))).rejects.toMatchObject({ code: 'NIX_STORE_CLOSED' });
  });

  it('stops an import when it is told to', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const { info, nar } = await sample('x');
    const controller = new AbortController();
    const source = async function* () {
      yield nar.subarray(0, 500);
      controller.abort(new Error('enough'));
      yield nar.subarray(500);
    };
    await expect(store.add(info, source(), { signal: controller.signal })).rejects.toThrow('enough');
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
  });

  it('unpacks before the references are there, and records after them', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const lib = await sample('lib');
    const app = await sample('app', [lib.info.storePath]);
    const consumed = Promise.withResolvers<void>();
    const source = async function* () {
      yield app.nar;
      consumed.resolve();
    };
    const references = Promise.withResolvers<void>();
    const adding = store.add(app.info, source(), { references: references.promise });
    await consumed.promise;
    expect(await store.has(app.info.storePath)).toBe(false);
    await addAll(store, [lib]);
    references.resolve();
    expect(await adding).toBe('added');
    expect(await store.closure([app.info.storePath])).toEqual([lib.info, app.info]);
  });

  it('imports nothing when its references fail, do not come, or are not there in the end', async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const { info, nar } = await sample('app', [storePath('lib')]);
    const endless = async function* () {
      yield nar.subarray(0, 500);
      await new Promise(() => undefined);
    };
    for (const source of [bytes(nar), endless()]) {
      const references = Promise.reject(new Error('no lib'));
      await expect(store.add(info, source, { references })).rejects.toThrow('no lib');
    }
    const signal = AbortSignal.timeout(50);
    const never = new Promise(() => undefined);
    await expect(store.add(info, bytes(nar), { references: never, signal })).rejects.toThrow('timeout');
    await expect(store.add(info, bytes(nar), { references: Promise.resolve() })).rejects.toMatchObject({
      code: 'NIX_REFERENCE_MISSING',
    });
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
    const [session = ''] = (await readdir(join(dir.path, 'tmp'))).filter((name) => !name.endsWith('.lock'));
    expect(await readdir(join(dir.path, 'tmp', session))).toEqual([]);
  });

  it('brings a database of version 1 to version 2', async () => {
    await using dir = await tempDir();
    const { info, nar } = await sample('x');
    const samples = [await sample('y'), await sample('z'), await sample('a')];
    const [otherHash, toItself, addressed] = samples.map((one) => one.info.storePath) as [
      StorePath,
      StorePath,
      StorePath,
    ];
    {
      await using store = await LocalStore.open({ dir: dir.path });
      await store.add(info, bytes(nar));
      await addAll(store, samples);
    }
    {
      using db = new DatabaseSync(join(dir.path, 'db.sqlite'));
      const set = db.prepare('UPDATE paths SET ca = ? WHERE path = ?');
      set.run('fixed:r:sha512:x', otherHash);
      for (const path of [toItself, addressed]) set.run('fixed:r:sha256:x', path);
      db.prepare('INSERT INTO refs VALUES (?, ?)').run(toItself, toItself);
      db.exec(`DROP TABLE pins; DROP TABLE holds; DROP INDEX paths_unsynced; ALTER TABLE paths DROP COLUMN last_used;
        ALTER TABLE paths DROP COLUMN unsynced; PRAGMA user_version = 1`);
    }
    const before = Date.now();
    await using store = await LocalStore.open({ dir: dir.path });
    expect(await store.pathInfo(info.storePath)).toEqual(info);
    // Their content was not compared with such addresses in version 1.
    for (const path of [otherHash, toItself]) expect(await store.pathInfo(path)).not.toHaveProperty('ca');
    expect(await store.pathInfo(addressed)).toHaveProperty('ca');
    expect(queryStore(dir.path, 'SELECT DISTINCT unsynced FROM paths')).toEqual([null]);
    expect(queryStore(dir.path, 'SELECT last_used FROM paths')[0]).toBeGreaterThan(before - 2000);
    await store.pin('it', [info.storePath]);
    expect(queryStore(dir.path, 'PRAGMA user_version')).toEqual([2]);
  });

  it('forgets what was deleted by hand, with all that needs it, and takes it again', async () => {
    await using dir = await tempDir();
    const lib = await sample('lib');
    const app = await sample('app', [lib.info.storePath]);
    const alone = await sample('alone');
    {
      await using store = await LocalStore.open({ dir: dir.path });
      for (const { info, nar } of [lib, app, alone]) await store.add(info, bytes(nar));
      await removeTree(store.realPath(lib.info.storePath));
    }
    const damaged: DamagedPath[] = [];
    await using store = await LocalStore.open({ dir: dir.path, onDamaged: (damage) => void damaged.push(damage) });
    expect(damaged).toEqual([
      expect.objectContaining({
        storePath: lib.info.storePath,
        kind: 'missing',
        outcome: 'removed',
        removed: [lib.info.storePath, app.info.storePath],
      }),
    ]);
    const all = [lib, app, alone].map(({ info }) => info.storePath);
    expect(await store.missing(all)).toEqual([lib.info.storePath, app.info.storePath]);
    for (const { info, nar } of [lib, app]) expect(await store.add(info, bytes(nar))).toBe('added');
  });

  it('sweeps what a crash left, and replaces a path that was not recorded', async () => {
    await using dir = await tempDir();
    const { info, nar } = await sample('x');
    await using first = await LocalStore.open({ dir: dir.path });
    // As after a crash between the rename and the record.
    await mkdir(join(first.realPath(info.storePath), 'half'), { recursive: true });
    await mkdir(join(dir.path, 'tmp/dead-1/half'), { recursive: true });
    expect(await first.add(info, bytes(nar))).toBe('added');
    expect(await readdir(first.realPath(info.storePath))).toEqual(['bin']);

    await mkdir(join(dir.path, 'nix/store', storePathBaseName(storePath('unrecorded'))));
    await using second = await LocalStore.open({ dir: dir.path });
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([storePathBaseName(info.storePath)]);
    expect((await readdir(join(dir.path, 'tmp'))).filter((name) => name.startsWith('dead-'))).toEqual([]);
    expect(await second.has(info.storePath)).toBe(true);
  });

  it('refuses a folder or a database that it cannot use', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'file'), '');
    await expect(LocalStore.open({ dir: join(dir.path, 'file') })).rejects.toMatchObject({ code: 'NIX_STORE_INVALID' });

    await mkdir(join(dir.path, 'garbage'));
    await writeFile(join(dir.path, 'garbage/db.sqlite'), randomBytes(5000));
    await expect(LocalStore.open({ dir: join(dir.path, 'garbage') })).rejects.toMatchObject({
      code: 'NIX_STORE_INVALID',
    });

    const later = join(dir.path, 'later');
    await (await LocalStore.open({ dir: later }))[Symbol.asyncDispose]();
    const db = new DatabaseSync(join(later, 'db.sqlite'));
    db.exec('PRAGMA user_version = 99');
    db.close();
    await expect(LocalStore.open({ dir: later })).rejects.toThrow('it has version 99, this program knows version 2');
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}
