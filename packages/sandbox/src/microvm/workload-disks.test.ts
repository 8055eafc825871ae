import { chmod, mkdir, readdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import type { ClosurePath } from '../sandbox.ts';
import { createScratch, WorkloadDisks } from './workload-disks.ts';

const LONG_AGO = new Date(Date.now() - 3_600_000);

describeWith(['mkfs.erofs', 'unshare'], 'disks of workloads', () => {
  it('are built once for each set of store paths, in whatever order, and by one of many callers', async () => {
    await using bed = await makeBed();
    const disks = await bed.open();
    const [a, b] = [await bed.path('a'), await bed.path('b')];
    const asked = await Promise.all([disks.disk([a, b]), disks.disk([b, a]), disks.disk([a, b])]);
    expect(new Set(asked.map(({ file }) => file)).size).toBe(1);
    const [first] = asked;
    const { ino, size } = await stat(first?.file ?? '');
    expect(size).toBe(first?.size);
    // What is there is not built again, though its paths are gone.
    await rm(a.source, { recursive: true });
    expect(await stat((await disks.disk([b, a])).file)).toMatchObject({ ino });
    expect((await disks.disk([b])).file).not.toBe(first?.file);
    expect((await readdir(bed.folder)).filter((name) => name.endsWith('.erofs'))).toHaveLength(2);
  });

  it('are there again for the next process, which removes what a killed one left half done', async () => {
    await using bed = await makeBed();
    const a = await bed.path('a');
    const whole = await (await bed.open()).disk([a]);
    const cut = await bed.built('b');
    const { ino } = await stat(whole.file);
    await truncate(cut.file, 100);
    await mkdir(`${whole.file}.abcdef/tree`, { recursive: true });
    await writeFile(`${whole.file.replace('.erofs', '')}0.erofs`, 'without a record');
    const disks = await bed.open();
    expect((await readdir(bed.folder)).sort()).toEqual(
      [whole.file, whole.file.replace('.erofs', '.json'), 'boot']
        .map((file) => file.slice(file.lastIndexOf('/') + 1))
        .sort(),
    );
    expect((await stat((await disks.disk([a])).file)).ino).toBe(ino);
  });

  it('are not trusted after the machine was started anew: what was written may not have reached the disk', async () => {
    await using bed = await makeBed();
    await bed.built('a');
    await writeFile(join(bed.folder, 'boot'), 'another boot\n');
    await bed.open();
    expect(await readdir(bed.folder)).toEqual(['boot']);
  });

  it('go when the store no longer has one of their paths, unless a machine holds them', async () => {
    await using bed = await makeBed();
    const [kept, gone, held] = [await bed.built('kept'), await bed.built('gone'), await bed.built('held')];
    const disks = await bed.openLater();
    const hold = (await disks.disk([await bed.path('held')])).hold();
    const collect = () => disks.collect({ isPresent: async (storePath) => storePath.endsWith('-kept') });
    await collect();
    expect(await bed.present(kept, gone, held)).toEqual([true, false, true]);
    hold[Symbol.dispose]();
    // Asked for a moment ago: whoever did may be about to hold it.
    await collect();
    expect(await bed.present(held)).toEqual([true]);
    const later = await bed.openLater();
    await later.collect({ isPresent: (storePath) => storePath.endsWith('-kept') });
    expect(await bed.present(kept, held)).toEqual([true, false]);
  });

  it('go when they take too much, the one that was not used for longest first', async () => {
    await using bed = await makeBed();
    const [old, older, oldest] = [await bed.built('old'), await bed.built('older'), await bed.built('oldest')];
    const disks = await bed.openLater({ budget: old.size * 2, ages: [old, older, oldest] });
    const built = await disks.disk([await bed.path('new')]);
    expect(await bed.present(old, older, oldest, built)).toEqual([true, false, false, true]);
  });

  it('hold what a hostile store path holds and nothing else: links are never followed', async () => {
    await using bed = await makeBed();
    const secret = join(bed.store, 'secret');
    await writeFile(secret, 'not for the guest');
    const link = { storePath: `/nix/store/${HASH}-link`, source: join(bed.store, `${HASH}-link`) };
    await symlink(secret, link.source);
    const folder = await bed.path('folder');
    await symlink('../../secret', join(folder.source, 'out'));
    await writeFile(join(folder.source, 'a name\nwith "everything" \\ in it #'), 'x');
    await chmod(join(folder.source, 'file'), 0o4755);
    const disks = await bed.open();
    const { file } = await disks.disk([link, folder]);
    const bytes = await readFile(file, 'latin1');
    expect(bytes).toContain('content of folder');
    expect(bytes).toContain(secret);
    expect(bytes).not.toContain('not for the guest');
  });

  it('cannot be built of what is not there, and leave nothing then', async () => {
    await using bed = await makeBed();
    const disks = await bed.open();
    const gone = { storePath: `/nix/store/${HASH}-gone`, source: join(bed.store, 'gone') };
    await expect(disks.disk([gone])).rejects.toMatchObject({ code: 'GUEST_BUILD_FAILED' });
    expect(await readdir(bed.folder)).toEqual(['boot']);
  });

  it('are waited for no longer than the caller wants; the build goes on', async () => {
    await using bed = await makeBed();
    const disks = await bed.open();
    const a = await bed.path('a');
    const waiting = disks.disk([a], { signal: AbortSignal.timeout(0) });
    await expect(waiting).rejects.toMatchObject({ name: 'TimeoutError' });
    const { file } = await disks.disk([a]);
    expect((await stat(file)).isFile()).toBe(true);
  });

  it('have scratch beside them: a file of a size that takes no space', async () => {
    await using bed = await makeBed();
    const file = join(bed.store, 'scratch');
    await createScratch(file, (1 << 30) + 1);
    const { size, blocks, mode } = await stat(file);
    expect({ size, blocks, mode: mode & 0o777 }).toEqual({ size: (1 << 30) + 4096, blocks: 0, mode: 0o600 });
  });
});

const HASH = 'abcdfghijklmnpqrsvwxyz0123456789';

async function makeBed() {
  const dir = await tempDir();
  const [folder, store] = [join(dir.path, 'disks'), join(dir.path, 'store')];
  await mkdir(store);
  const open = ({ budget = 1 << 30 } = {}) => WorkloadDisks.open({ folder, budget });
  const path = async (name: string): Promise<ClosurePath> => {
    const source = join(store, `${HASH}-${name}`);
    await mkdir(source, { recursive: true });
    await writeFile(join(source, 'file'), `content of ${name}`);
    return { storePath: `/nix/store/${HASH}-${name}`, source };
  };
  return {
    folder,
    store,
    open,
    path,
    built: async (name: string) => (await open()).disk([await path(name)]),
    /** As `open`, when the disks were last used long ago, each of `ages` an hour longer than the one before. */
    async openLater({ budget, ages = [] }: { budget?: number; ages?: readonly { file: string }[] } = {}) {
      const files = await readdir(folder);
      for (const name of files) await utimes(join(folder, name), LONG_AGO, LONG_AGO);
      for (const [index, { file }] of ages.entries()) {
        const time = new Date(LONG_AGO.getTime() - index * 3_600_000);
        await utimes(file, time, time);
      }
      return open(budget === undefined ? {} : { budget });
    },
    present: (...asked: readonly { file: string }[]) =>
      Promise.all(
        asked.map(({ file }) =>
          stat(file).then(
            () => true,
            () => false,
          ),
        ),
      ),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}
