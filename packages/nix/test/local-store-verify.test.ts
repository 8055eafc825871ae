import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readdir, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type DamagedPath, LocalStore, type StorePath, storePathBaseName, type VerifyProgress } from '@nex-nix/nix';
import { tempDir, waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { removeTree } from '../src/nar/remove-tree.ts';
import { storePath } from './nix.ts';
import { addAll, queryStore, type Sample, sample, sourceOf } from './sample-path.ts';

const pathOf = ({ info }: Sample) => info.storePath;

/** Writes over the middle of a file; its size and modification time stay. */
async function corrupt(file: string): Promise<void> {
  const content = readFileSync(file);
  content.fill('!', 10, 20);
  await chmod(file, 0o755);
  await writeFile(file, content);
  await chmod(file, 0o555);
  await utimes(file, 1, 1);
}

/** Does `change` in a folder of a store, and puts its metadata right again. */
async function changeFolder(folder: string, change: () => Promise<unknown>): Promise<void> {
  await chmod(folder, 0o755);
  await change();
  await chmod(folder, 0o555);
  await utimes(folder, 1, 1);
}

const DAMAGES: readonly (readonly [string, (path: string) => Promise<unknown>, string, RegExp])[] = [
  ['a flipped byte', (path) => corrupt(join(path, 'bin/program')), 'content', /its NAR hash is sha256:.*, expected/],
  ['a file cut off', (path) => truncate(join(path, 'bin/program'), 500), 'content', /its NAR is \d+ bytes, expected/],
  ['a lost file', (path) => changeFolder(join(path, 'bin'), () => rm(join(path, 'bin/program'))), 'content', /bytes/],
  ['a lost folder', (path) => changeFolder(path, () => removeTree(join(path, 'share'))), 'content', /bytes/],
  ['one file more', (path) => changeFolder(path, () => writeFile(join(path, 'new'), '')), 'content', /bytes/],
  [
    'a link for a folder',
    (path) =>
      changeFolder(path, async () => {
        await removeTree(join(path, 'bin'));
        await symlink('share', join(path, 'bin'));
      }),
    'content',
    /bytes/,
  ],
  [
    'a folder for a file',
    (path) =>
      changeFolder(join(path, 'bin'), async () => {
        await rm(join(path, 'bin/program'));
        await mkdir(join(path, 'bin/program/deep/er'), { recursive: true });
      }),
    'content',
    /bytes/,
  ],
  [
    'a file for everything',
    async (path) => {
      await removeTree(path);
      await writeFile(path, 'x');
    },
    'content',
    /bytes/,
  ],
  ['nothing at all', (path) => removeTree(path), 'missing', /it is not there/],
  ['another mode', (path) => chmod(join(path, 'share/data'), 0o644), 'metadata', /has mode 644, expected 444 or 555/],
  ['a writable folder', (path) => chmod(path, 0o755), 'metadata', /has mode 755, expected 555/],
  ['another time', (path) => utimes(join(path, 'share'), 7, 7), 'metadata', /was changed at 1970-01-01T00:00:07/],
];

async function storeOf(dir: string, names: readonly string[]): Promise<{ store: LocalStore; samples: Sample[] }> {
  const store = await LocalStore.open({ dir });
  const samples: Sample[] = [];
  // Each refers to the one before.
  for (const name of names) {
    const below = samples.at(-1);
    samples.push(await sample(name, below === undefined ? [] : [pathOf(below)], { 'share/data': Buffer.from(name) }));
  }
  await addAll(store, samples);
  return { store, samples };
}

describe('LocalStore.verify()', () => {
  it('finds nothing wrong with what was imported', async () => {
    await using dir = await tempDir();
    const { store: open, samples } = await storeOf(dir.path, ['a', 'b']);
    await using store = open;
    const progress: VerifyProgress[] = [];
    const report = await store.verify({ onProgress: (step) => void progress.push(step) });
    const checkedBytes = samples.reduce((sum, { info }) => sum + info.narSize, 0);
    expect(report).toEqual({ checkedPaths: 2, checkedBytes, damaged: [], unrecorded: [] });
    expect(progress.at(-1)).toMatchObject({ checkedPaths: 2, totalPaths: 2, checkedBytes, damage: undefined });
    const absent = storePath('absent');
    await expect(store.verify({ paths: [absent] })).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: `Cannot verify "${absent}": it is not in ${store.name}`,
    });
    await expect(store.verify({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });

  it.each(DAMAGES)('finds and repairs %s', async (_, damage, kind, detail) => {
    await using dir = await tempDir();
    const { store: open, samples } = await storeOf(dir.path, ['lib', 'app']);
    await using store = open;
    const [lib] = samples;
    if (lib === undefined) throw new Error('no sample');
    await damage(store.realPath(pathOf(lib)));
    const found = { storePath: pathOf(lib), kind, detail: expect.stringMatching(detail) };
    expect((await store.verify()).damaged).toEqual([{ ...found, outcome: 'kept' }]);
    expect((await store.verify({ repair: sourceOf(samples) })).damaged).toEqual([{ ...found, outcome: 'repaired' }]);
    expect((await store.verify()).damaged).toEqual([]);
    const [session = ''] = (await readdir(join(dir.path, 'tmp'))).filter((name) => !name.endsWith('.lock'));
    expect(await readdir(join(dir.path, 'tmp', session))).toEqual([]);
  });

  it('repairs in place: folders stay the same ones, who reads an old file keeps it', async () => {
    await using dir = await tempDir();
    const { store: open, samples } = await storeOf(dir.path, ['x']);
    await using store = open;
    const path = store.realPath(samples[0]?.info.storePath ?? storePath('none'));
    await corrupt(join(path, 'bin/program'));
    const damaged = readFileSync(join(path, 'bin/program'));
    const before = await Promise.all([stat(path), stat(join(path, 'bin'))]);
    const fd = openSync(join(path, 'bin/program'), 'r');
    try {
      await store.verify({ repair: sourceOf(samples) });
      const after = await Promise.all([stat(path), stat(join(path, 'bin'))]);
      expect(after.map(({ ino }) => ino)).toEqual(before.map(({ ino }) => ino));
      expect(readFileSync(fd).equals(damaged)).toBe(true);
      expect(readFileSync(join(path, 'bin/program')).equals(damaged)).toBe(false);
    } finally {
      closeSync(fd);
    }
  });

  it('keeps or removes what cannot be repaired, with all that refers to it', async () => {
    await using dir = await tempDir();
    const { store: open, samples } = await storeOf(dir.path, ['lib', 'app', 'top']);
    await using store = open;
    const [lib, app, top] = samples.map(pathOf) as [StorePath, StorePath, StorePath];
    await corrupt(join(store.realPath(app), 'bin/program'));
    await mkdir(join(dir.path, 'nix/store/unrecorded'));

    const liar = { ...sourceOf(samples), nar: () => sourceOf(samples).nar((samples[0] as Sample).info) };
    for (const [repair, code] of [
      [sourceOf([]), 'NIX_PATH_NOT_FOUND'],
      [liar, 'NIX_NAR_HASH_MISMATCH'],
    ] as const) {
      expect(await store.verify({ repair })).toMatchObject({
        damaged: [{ storePath: app, outcome: 'kept', error: { code } }],
        unrecorded: ['unrecorded'],
      });
    }
    expect(await store.missing([lib, app, top])).toEqual([]);
    expect(await store.verify({ repair: sourceOf([]), remove: true })).toMatchObject({
      damaged: [{ storePath: app, outcome: 'removed', removed: [app, top] }],
      unrecorded: ['unrecorded'],
    });
    expect(await store.missing([lib, app, top])).toEqual([app, top]);
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([storePathBaseName(lib)]);
  });
});

describe('LocalStore after the machine stopped', () => {
  /** As if all that is not on the disk yet had been written before the machine was last started. */
  function restartMachine(dir: string): void {
    using db = new DatabaseSync(join(dir, 'db.sqlite'));
    db.exec("UPDATE paths SET unsynced = 'another-boot 1'");
  }

  it.each(DAMAGES)('does not take %s for a valid path', async (_, damage, kind) => {
    await using dir = await tempDir();
    const { store: first, samples } = await storeOf(dir.path, ['lib', 'app', 'top']);
    const [lib, app, top] = samples.map(pathOf) as [StorePath, StorePath, StorePath];
    await first[Symbol.asyncDispose]();
    restartMachine(dir.path);
    await damage(first.realPath(app));

    const damaged: DamagedPath[] = [];
    await using store = await LocalStore.open({ dir: dir.path, onDamaged: (found) => void damaged.push(found) });
    expect(damaged).toEqual([
      { storePath: app, kind, detail: expect.any(String), outcome: 'removed', removed: [app, top] },
    ]);
    expect(await store.missing([lib, app, top])).toEqual([app, top]);
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([storePathBaseName(lib)]);
    expect(queryStore(dir.path, 'SELECT unsynced FROM paths')).toEqual([null]);
    await addAll(store, samples);
    expect((await store.verify()).damaged).toEqual([]);
  });

  it('verifies what was not on the disk, and only that', async () => {
    await using dir = await tempDir();
    const { store: first, samples } = await storeOf(dir.path, ['a', 'b']);
    await first[Symbol.asyncDispose]();
    restartMachine(dir.path);
    await (await LocalStore.open({ dir: dir.path }))[Symbol.asyncDispose]();
    expect(queryStore(dir.path, 'SELECT unsynced FROM paths')).toEqual([null, null]);
    // Not read again.
    await corrupt(join(first.realPath((samples[1] as Sample).info.storePath), 'bin/program'));
    await using store = await LocalStore.open({ dir: dir.path });
    expect(await store.missing(samples.map(pathOf))).toEqual([]);
  });

  it('brings imports to the disk in the background, also those that an earlier process left', async () => {
    await using dir = await tempDir();
    const { store: first } = await storeOf(dir.path, ['a', 'b', 'c']);
    const unsynced = () => queryStore(dir.path, 'SELECT unsynced FROM paths WHERE unsynced IS NOT NULL');
    await first[Symbol.asyncDispose]();
    expect(unsynced()).toHaveLength(3);
    await using _second = await LocalStore.open({ dir: dir.path });
    await waitFor('the disk', () => unsynced().length === 0);
  });

  it('verifies what the disk refused to take', async () => {
    await using dir = await tempDir();
    const { store: first, samples } = await storeOf(dir.path, ['a', 'b']);
    const [a] = samples.map(pathOf) as [StorePath];
    await removeTree(first.realPath(a));
    const marks = () => queryStore(dir.path, 'SELECT unsynced FROM paths ORDER BY nar_size, unsynced');
    await waitFor('the marks', () => marks().some((mark) => String(mark).startsWith('unknown ')));
    await first[Symbol.asyncDispose]();
    const damaged: StorePath[] = [];
    await using store = await LocalStore.open({
      dir: dir.path,
      onDamaged: (found) => void damaged.push(found.storePath),
    });
    expect(damaged).toEqual([a]);
    expect(await store.missing(samples.map(pathOf))).toEqual(samples.map(pathOf));
  });
});
