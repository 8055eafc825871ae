import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkTrust, copyClosure, LocalStore, openBinaryCache, publish } from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';

/** A folder with a file, a program, a link and an empty folder. */
async function sampleFolder(parent: string): Promise<string> {
  const folder = join(parent, 'sample-1.0');
  await mkdir(join(folder, 'bin'), { recursive: true });
  await mkdir(join(folder, 'empty'));
  await writeFile(join(folder, 'notes.txt'), 'some text');
  await writeFile(join(folder, 'bin/tool'), '\x7fELF', { mode: 0o755 });
  await symlink('tool', join(folder, 'bin/other'));
  return folder;
}

describeEachNix('publish() and real Nix', (nix) => {
  const isNew = nix.isAtLeast('2.20');
  const addTree = isNew ? ['add'] : ['add-path'];
  const addFlat = isNew ? ['add', '--mode', 'flat'] : ['add-file'];

  it('gives the path that nix store add gives', async () => {
    await using dir = await tempDir();
    const folder = await sampleFolder(dir.path);
    const store = ['--store', `local?root=${join(dir.path, 'root')}`];
    const add = async (...args: string[]) => (await nix.run('nix', ...store, 'store', ...args)).toString().trim();
    for (const file of [folder, join(folder, 'notes.txt'), join(folder, 'bin/tool'), join(folder, 'bin/other')]) {
      expect((await publish(file)).info.storePath).toBe(await add(...addTree, file));
    }
    expect((await publish(folder, { name: 'renamed' })).info.storePath).toBe(
      await add(...addTree, '--name', 'renamed', folder),
    );
    for (const file of [join(folder, 'notes.txt'), join(folder, 'bin/tool')]) {
      expect((await publish(file, { as: 'flat' })).info.storePath).toBe(await add(...addFlat, file));
    }
  });

  it('gives a cache that Nix copies from without any key', async () => {
    await using dir = await tempDir();
    const folder = await sampleFolder(dir.path);
    const url = `file://${join(dir.path, 'cache')}`;
    const cache = openBinaryCache(url);
    const to = `local?root=${join(dir.path, 'root')}`;
    const program = await publish(join(folder, 'bin/tool'), { as: 'program' });
    const publications = [await publish(folder), await publish(join(folder, 'notes.txt'), { as: 'flat' }), program];
    for (const publication of publications) {
      const { storePath } = publication.info;
      await copyClosure(publication, cache, [storePath], { trustedKeys: [] });
      await nix.run('nix', '--option', 'trusted-public-keys', '', 'copy', '--from', url, '--to', to, storePath);
      await nix.run('nix', '--store', to, 'store', 'verify', storePath);
    }
    const listing = (await nix.run('nix', '--store', to, 'store', 'ls', '-lR', program.info.storePath)).toString();
    expect(listing).toMatch(/^dr-xr-xr-x +0 \.\/bin\n-r-xr-xr-x +4 \.\/bin\/tool$/m);
  });
});

describe('publish()', () => {
  it('makes a program executable for everybody, whatever it was for its owner', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'server');
    await writeFile(file, 'binary', { mode: 0o700 });
    const publication = await publish(file, { as: 'program', name: 'server-1.2' });
    expect(publication.info.storePath).toMatch(/-server-1\.2$/);
    expect(checkTrust(publication.info, [])).toEqual({ trusted: true, by: 'content-address' });
    await using store = await LocalStore.open({ dir: join(dir.path, 'store') });
    const { storePath } = publication.info;
    await copyClosure(publication, store, [storePath], { trustedKeys: [] });
    expect(await store.missing([storePath])).toEqual([]);
    const tree = await publish(store.realPath(storePath), { name: 'server-1.2' });
    expect(tree.info).toEqual(publication.info);
  });

  it('refuses what is not there, is no plain file, or cannot be run', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'file');
    await writeFile(file, '');
    await expect(publish(join(dir.path, 'nothing'))).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: `Cannot publish "${join(dir.path, 'nothing')}": there is no such file`,
    });
    await expect(publish(dir.path, { as: 'flat' })).rejects.toMatchObject({
      code: 'NIX_PUBLISH_REFUSED',
      message: `Cannot publish "${dir.path}": it is no plain file`,
    });
    await expect(publish(file, { as: 'program' })).rejects.toMatchObject({
      code: 'NIX_PUBLISH_REFUSED',
      hint: `If it is a program, make it so: chmod +x ${file}`,
    });
    await chmod(file, 0o755);
    await expect(publish(file, { name: 'no spaces please' })).rejects.toMatchObject({
      code: 'NIX_STORE_PATH_INVALID',
      message: `Cannot publish "${file}": no store path can be called "no spaces please"`,
    });
  });

  it('is found out when the file changes afterwards', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'server');
    await writeFile(file, 'binary', { mode: 0o755 });
    for (const as of ['tree', 'program'] as const) {
      await writeFile(file, 'binary');
      const publication = await publish(file, { as });
      await writeFile(file, 'BINARY');
      await using store = await LocalStore.open({ dir: join(dir.path, 'store') });
      const copying = copyClosure(publication, store, [publication.info.storePath], { trustedKeys: [] });
      await expect(copying).rejects.toMatchObject({ code: 'NIX_NAR_HASH_MISMATCH' });
    }
  });
});
