import { fork } from 'node:child_process';
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { chmod, mkdir, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LocalChunks, NatsCache } from '@nex-nix/cache';
import { copyClosure, formatPublicKey, LocalStore, type PathInfo, storePathHash } from '@nex-nix/nix';
import { describeWith, tempDir, type TempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { noise, startCache, type TestCache } from './fixture.ts';

const SIZE = 4 << 20;
const LINE = Buffer.from('a line that was not there before\n');

/** Version `n` of a tool: it mentions itself every 100 kB, and has `n` lines that the first version has not. */
async function version({ source, cache }: TestCache, n: number): Promise<PathInfo> {
  const name = `tool-${n}`;
  const { storePath } = await source.add(name, {});
  const bytes = noise(SIZE, 5);
  for (let at = 0; at + 32 < SIZE; at += 100_000) bytes.write(storePathHash(storePath), at, 'latin1');
  const lines = Array.from({ length: n - 1 }, () => LINE);
  const content = Buffer.concat([bytes.subarray(0, 2_000_050), ...lines, bytes.subarray(2_000_050)]);
  const files = {
    'bin/tool': content,
    'share/notes': `These are the notes of ${storePath}\n`,
    zeros: Buffer.alloc(1 << 20),
  };
  const info = await source.add(name, files, { references: [storePath] });
  await cache.push(source, [storePath]);
  return info;
}

/** A cache, the store of a node, and a count of the chunks that are fetched. */
interface Bed extends AsyncDisposable {
  readonly test: TestCache;
  readonly dir: TempDir;
  readonly store: LocalStore;
  /** Pulls a path as another run of a node would, and returns how many chunks were fetched for it, and how many bytes were not. */
  pull(info: PathInfo): Promise<{ fetched: number; reused: number }>;
}

async function openBed(): Promise<Bed> {
  await using stack = new AsyncDisposableStack();
  const test = stack.use(await startCache());
  const dir = stack.use(await tempDir());
  const store = stack.use(await LocalStore.open({ dir: dir.path }));
  let requests = 0;
  test.nc.subscribe('$JS.API.DIRECT.GET.NIX_CHUNKS.>', { callback: () => void requests++ });
  const owned = stack.move();
  return {
    test,
    dir,
    store,
    async pull({ storePath }) {
      const before = requests;
      using local = new LocalChunks(store);
      // A client of its own, which remembers nothing.
      const cache = await NatsCache.open(test.nc);
      await copyClosure(cache.reusing(local), store, [storePath], { trustedKeys: [test.cache.publicKey] });
      await test.nc.flush();
      const content = await readFile(join(store.realPath(storePath), 'bin/tool'));
      expect(content.includes(storePathHash(storePath), SIZE - 200_000)).toBe(true);
      return { fetched: requests - before, reused: local.reusedBytes };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const ALL = { fetched: expect.toSatisfy((count: number) => count > 10) as number, reused: 0 };
const FEW = { fetched: expect.toSatisfy((count: number) => count <= 5) as number };

describeWith(['nats-server'], 'chunks that the store has', () => {
  it('are not fetched: of the next version, only what has changed is', async () => {
    await using bed = await openBed();
    const [first, second] = [await version(bed.test, 1), await version(bed.test, 2)];
    expect(await bed.pull(first)).toMatchObject(ALL);
    const { fetched, reused } = await bed.pull(second);
    // What says how long the file is, where the line is, and what comes after the file.
    expect(fetched).toBeLessThanOrEqual(4);
    expect(reused).toBeGreaterThan(0.6 * second.narSize);
    expect((await bed.store.verify()).damaged).toEqual([]);
  });

  it('are all there is when nothing but hashes has changed', async () => {
    await using bed = await openBed();
    const { source, cache } = bed.test;
    const builds = [];
    for (const name of ['same-1', 'same-2']) {
      const { storePath } = await source.add(name, {});
      const bytes = noise(SIZE, 6);
      for (let at = 0; at + 32 < SIZE; at += 50_000) bytes.write(storePathHash(storePath), at, 'latin1');
      bytes.write(storePathHash(storePath), SIZE - 32, 'latin1');
      builds.push(await source.add(name, { 'bin/tool': bytes }, { references: [storePath] }));
      await cache.push(source, [storePath]);
    }
    const [first, second] = builds as [PathInfo, PathInfo];
    expect(await bed.pull(first)).toMatchObject(ALL);
    expect(await bed.pull(second)).toEqual({ fetched: 0, reused: second.narSize });
  });

  it('are fetched where the file that had them is damaged, cut off or gone', async () => {
    await using bed = await openBed();
    const [first, second] = [await version(bed.test, 1), await version(bed.test, 2)];
    await bed.pull(first);
    const file = join(bed.store.realPath(first.storePath), 'bin/tool');
    await chmod(file, 0o644);
    {
      await using handle = await open(file, 'r+');
      await handle.write(Buffer.from('!'), 0, 1, 1_000_003);
    }
    const flipped = await bed.pull(second);
    expect(flipped).toMatchObject(FEW);

    const third = await version(bed.test, 3);
    using _ = bed.store.hold([first.storePath]);
    await bed.store.collectGarbage({ maxBytes: 0 });
    await truncate(file, 1_000_000);
    expect(await bed.pull(third)).toMatchObject({ fetched: expect.toSatisfy((count: number) => count > 5) });
    expect((await bed.store.verify()).damaged.map(({ storePath }) => storePath)).not.toContain(third.storePath);
  });

  it('are found in an earlier version when the last was collected, and fetched when all were', async () => {
    await using bed = await openBed();
    const versions = [];
    for (const n of [1, 2, 3, 4]) versions.push(await version(bed.test, n));
    const [first, second, third, fourth] = versions as [PathInfo, PathInfo, PathInfo, PathInfo];
    await bed.pull(first);
    await bed.pull(second);
    {
      using _ = bed.store.hold([first.storePath]);
      await bed.store.collectGarbage({ maxBytes: 0 });
      expect(await bed.store.has(second.storePath)).toBe(false);
      expect(await bed.pull(third)).toMatchObject(FEW);
    }
    await bed.store.collectGarbage({ maxBytes: 0 });
    expect(await bed.pull(fourth)).toMatchObject(ALL);
  });

  it('may go while they are read', async () => {
    await using bed = await openBed();
    const [first, second] = [await version(bed.test, 1), await version(bed.test, 2)];
    await bed.pull(first);
    using local = new LocalChunks(bed.store);
    const source = (await NatsCache.open(bed.test.nc)).reusing(local);
    const { storePath } = second;
    let isGone = false;
    await copyClosure(source, bed.store, [storePath], {
      trustedKeys: [bed.test.cache.publicKey],
      onProgress: ({ copiedBytes }) => {
        if (isGone || copiedBytes < 1 << 20) return;
        const path = bed.store.realPath(first.storePath);
        renameSync(path, `${path}-gone`);
        isGone = true;
      },
    });
    expect(isGone).toBe(true);
    expect(await bed.store.has(storePath)).toBe(true);
  });

  it.each([
    ['is gone', (file: string) => rm(file)],
    ['is another file', (file: string) => writeFile(file, noise(50_000))],
    ['is empty', (file: string) => truncate(file, 0)],
    ['is cut off', (file: string) => truncate(file, 8000)],
    ['is of another version', async (file: string) => change(file, 'PRAGMA user_version = 77')],
    ['lacks a table', async (file: string) => change(file, 'DROP TABLE chunks')],
    [
      'says nonsense',
      async (file: string) => change(file, `UPDATE chunks SET start = start * 5 + 1; UPDATE paths SET nar_size = 9`),
    ],
  ])('are fetched when the index %s, and the next version finds them again', async (_what, damage) => {
    await using bed = await openBed();
    const [first, second, third] = [await version(bed.test, 1), await version(bed.test, 2), await version(bed.test, 3)];
    await bed.pull(first);
    await damage(join(bed.dir.path, 'chunks.sqlite'));
    expect(await bed.pull(second)).toMatchObject(ALL);
    expect(await bed.pull(third)).toMatchObject(FEW);
  });

  it('are fetched where there can be no index', async () => {
    await using bed = await openBed();
    const [first, second] = [await version(bed.test, 1), await version(bed.test, 2)];
    await mkdir(join(bed.dir.path, 'chunks.sqlite/folder'), { recursive: true });
    expect(await bed.pull(first)).toMatchObject(ALL);
    expect(await bed.pull(second)).toMatchObject(ALL);
  });

  it('are used by two processes that pull at once, and what they remember is whole', async () => {
    await using bed = await openBed();
    const [first, second, third] = [await version(bed.test, 1), await version(bed.test, 2), await version(bed.test, 3)];
    const pullElsewhere = async (...infos: PathInfo[]) => {
      const paths = infos.map(({ storePath }) => storePath);
      const child = forkPull(bed, paths);
      const [message] = (await once(child, 'message')) as [number];
      expect(await once(child, 'exit')).toEqual([0, null]);
      return message;
    };
    await Promise.all([pullElsewhere(first), pullElsewhere(first)]);
    const reused = await Promise.all([pullElsewhere(second), pullElsewhere(second)]);
    // One of them may come when all is there.
    expect(Math.max(...reused)).toBeGreaterThan(SIZE / 2);
    expect(await bed.pull(third)).toMatchObject(FEW);
    expect((await bed.store.verify()).damaged).toEqual([]);
  });

  it('are found, or fetched, after a process was killed at any moment of a pull', async () => {
    await using bed = await openBed();
    const versions = [];
    for (const n of [1, 2, 3]) versions.push(await version(bed.test, n));
    const [first, second, third] = versions as [PathInfo, PathInfo, PathInfo];
    // While the tables are made, twice; with all chunks of the first path written, but not committed, twice; with those of the second.
    for (const killAt of [2, 3, 5, 4, 6]) {
      const child = forkPull(bed, [first.storePath, second.storePath], killAt);
      expect(await once(child, 'exit'), `before command ${killAt}`).toEqual([null, 'SIGKILL']);
    }
    await bed.pull(first);
    await bed.pull(second);
    expect(await bed.pull(third)).toMatchObject(FEW);
    expect((await bed.store.verify()).damaged).toEqual([]);
  });
});

function change(file: string, sql: string): void {
  using db = new DatabaseSync(file);
  db.exec(sql);
}

/** Pulls in a process of its own; with `killAt`, one that is killed before it gives the index that command. */
function forkPull({ test, dir }: Bed, paths: readonly string[], killAt?: number) {
  const args = [test.server.url, dir.path, formatPublicKey(test.cache.publicKey), ...paths];
  const env = { ...process.env, ...(killAt === undefined ? {} : { NEX_KILL_AT: String(killAt) }) };
  return fork(join(import.meta.dirname, 'pull-process.ts'), args, { execArgv: ['--conditions=nexsrc'], env });
}
