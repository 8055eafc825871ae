import { writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { LocalStore, narHashOf, type StorePath } from '@nex-nix/nix';
import { startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planCollection, type StoreGraph } from '../src/local-store/garbage-collection.ts';
import { StoreDatabase } from '../src/local-store/store-database.ts';
import { storePath } from './nix.ts';
import { addAll, bytes, queryStore, type Sample, sample } from './sample-path.ts';

const HOLD_CHILD = fileURLToPath(new URL('hold-child.ts', import.meta.url));
const AN_HOUR = 3_600_000;

const pathOf = ({ info }: Sample) => info.storePath;

/** Says when paths were used last, in hours before now. */
function setAges(dir: string, ages: readonly (readonly [Sample, number])[]): void {
  using db = new DatabaseSync(join(dir, 'db.sqlite'), { timeout: 5000 });
  const update = db.prepare('UPDATE paths SET last_used = ? WHERE path = ?');
  for (const [{ info }, hours] of ages) update.run(Date.now() - hours * AN_HOUR, info.storePath);
}

/** `old` and `young` refer to `shared`, which is older than either; nothing refers to `alone`. */
async function family(dir: string) {
  const shared = await sample('shared');
  const old = await sample('old', [pathOf(shared)]);
  const young = await sample('young', [pathOf(shared)]);
  const alone = await sample('alone');
  const all = [shared, old, young, alone];
  const store = await LocalStore.open({ dir });
  await addAll(store, all);
  setAges(dir, [
    [shared, 9],
    [old, 3],
    [alone, 2],
    [young, 1],
  ]);
  const valid = async () => {
    const missing = new Set(await store.missing(all.map(pathOf)));
    return all.map(pathOf).filter((path) => !missing.has(path));
  };
  return { store, shared, old, young, alone, all, valid, size: shared.info.narSize };
}

describe('LocalStore.collectGarbage()', () => {
  it('removes least recently used closures first, down to the bound', async () => {
    await using dir = await tempDir();
    const { store: open, shared, old, young, alone, all, valid } = await family(dir.path);
    await using store = open;
    const sizes = (samples: Sample[]) => samples.reduce((sum, { info }) => sum + info.narSize, 0);
    const removed: StorePath[] = [];
    const onRemoved = (path: StorePath) => void removed.push(path);
    expect(await store.collectGarbage({ maxBytes: sizes(all), onRemoved })).toMatchObject({ removed: [] });

    // One byte too many costs one path, not the one that something younger needs.
    expect(await store.collectGarbage({ maxBytes: sizes(all) - 1, onRemoved })).toEqual({
      removed: [pathOf(old)],
      freedBytes: sizes([old]),
      keptBytes: sizes([shared, young, alone]),
      protectedBytes: 0,
      isWithinBound: true,
    });
    expect(await valid()).toEqual([shared, young, alone].map(pathOf));
    expect(await store.collectGarbage({ maxBytes: 0, onRemoved })).toMatchObject({
      removed: [alone, young, shared].map(pathOf),
      keptBytes: 0,
    });
    expect(removed).toEqual([old, alone, young, shared].map(pathOf));
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
    await addAll(store, all);
    expect(await valid()).toEqual(all.map(pathOf));
  });

  it('takes a use of a path for one of its closure', async () => {
    await using dir = await tempDir();
    const { store: open, old, alone, young } = await family(dir.path);
    await using store = open;
    store.touch([pathOf(old)]);
    expect(await store.add(alone.info, bytes(alone.nar))).toBe('present');
    const { removed } = await store.collectGarbage({ maxBytes: 0 });
    expect(removed[0]).toBe(pathOf(young));
    expect(removed).toHaveLength(4);
  });

  it('writes uses down when it is closed', async () => {
    await using dir = await tempDir();
    const { store, old } = await family(dir.path);
    store.touch([pathOf(old)]);
    await store[Symbol.asyncDispose]();
    const newest = queryStore(dir.path, 'SELECT path FROM paths ORDER BY last_used DESC LIMIT 1');
    expect(newest).toEqual([pathOf(old)]);
  });

  it('keeps what is pinned with all it refers to, and says that this is more than the bound', async () => {
    await using dir = await tempDir();
    const { store: first, shared, old, young, valid } = await family(dir.path);
    await first.pin('release', [pathOf(young)]);
    await first.pin('release', [pathOf(old)]);
    const absent = storePath('absent');
    await expect(first.pin('release', [pathOf(young), absent])).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: `Cannot pin "${absent}": it is not in ${first.name}`,
    });
    const kept = { keptBytes: 2 * shared.info.narSize, protectedBytes: 2 * shared.info.narSize, isWithinBound: false };
    expect(await first.collectGarbage({ maxBytes: 1 })).toMatchObject(kept);
    expect(await valid()).toEqual([pathOf(shared), pathOf(old)]);
    await first[Symbol.asyncDispose]();

    await using store = await LocalStore.open({ dir: dir.path });
    expect(await store.pins()).toEqual(new Map([['release', [pathOf(old)]]]));
    expect(await store.collectGarbage({ maxBytes: 0 })).toMatchObject({ ...kept, removed: [] });
    await store.unpin('release');
    expect(await store.pins()).toEqual(new Map());
    expect((await store.collectGarbage({ maxBytes: 0 })).removed).toEqual([pathOf(old), pathOf(shared)]);
  });

  it('keeps what is held until the last hold ends, valid already or not', async () => {
    await using dir = await tempDir();
    const { store: open, shared, old, valid } = await family(dir.path);
    await using store = open;
    await using other = await LocalStore.open({ dir: dir.path });
    const late = await sample('late');
    const one = store.hold([pathOf(old), pathOf(late)]);
    const two = store.hold([pathOf(old)]);
    await addAll(store, [late]);
    await other.collectGarbage({ maxBytes: 0 });
    expect(await valid()).toEqual([pathOf(shared), pathOf(old)]);
    expect(await store.has(pathOf(late))).toBe(true);
    one[Symbol.dispose]();
    one[Symbol.dispose]();
    expect((await other.collectGarbage({ maxBytes: 0 })).removed).toEqual([pathOf(late)]);
    expect(await valid()).toEqual([pathOf(shared), pathOf(old)]);
    two[Symbol.dispose]();
    await other.collectGarbage({ maxBytes: 0 });
    expect(await valid()).toEqual([]);
  });

  it('sees what another process holds, until that is killed', async () => {
    await using dir = await tempDir();
    const { store: open, shared, old, valid } = await family(dir.path);
    await using store = open;
    await using child = startProcess(process.execPath, ['--conditions=nexsrc', HOLD_CHILD, dir.path, pathOf(old)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    await waitFor('the hold', () => child.stdout().includes('holding'));
    await store.collectGarbage({ maxBytes: 0 });
    expect(await valid()).toEqual([pathOf(shared), pathOf(old)]);
    child.kill('SIGKILL');
    await child.exited;
    await store.collectGarbage({ maxBytes: 0 });
    expect(await valid()).toEqual([]);
  });

  it('is seen at once by whoever has read what is gone, here and in another process', async () => {
    await using dir = await tempDir();
    const { store: open, shared, old } = await family(dir.path);
    await using store = open;
    await using other = await LocalStore.open({ dir: dir.path });
    for (const reader of [store, other]) expect(await reader.closure([pathOf(old)])).toHaveLength(2);

    await store.collectGarbage({ maxBytes: 0 });

    for (const reader of [store, other]) {
      expect(await reader.pathInfo(pathOf(shared))).toBeUndefined();
      expect(await reader.missing([pathOf(old), pathOf(shared)])).toEqual([pathOf(old), pathOf(shared)]);
      await expect(reader.closure([pathOf(old)])).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });
    }
  });

  it('does not take away what an import under way refers to', async () => {
    await using dir = await tempDir();
    const { store: open, shared, valid } = await family(dir.path);
    await using store = open;
    const app = await sample('app', [pathOf(shared)]);
    const source = async function* () {
      yield app.nar.subarray(0, 500);
      await store.collectGarbage({ maxBytes: 0 });
      yield app.nar.subarray(500);
    };
    expect(await store.add(app.info, source())).toBe('added');
    expect(await valid()).toEqual([pathOf(shared)]);
  });

  it('stops when it is told to, and when the store is closed', async () => {
    await using dir = await tempDir();
    const { store, all } = await family(dir.path);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(store.collectGarbage({ maxBytes: 0, signal })).rejects.toThrow('enough');
    expect(await store.missing(all.map(pathOf))).toEqual([]);
    const collecting = expect(store.collectGarbage({ maxBytes: 0 })).rejects.toMatchObject({
      code: 'NIX_STORE_CLOSED',
    });
    await store[Symbol.asyncDispose]();
    await collecting;
    expect(await readdir(join(dir.path, 'tmp'))).toEqual([]);
  });

  it('is quick with 10 000 paths', { timeout: 20_000 }, async () => {
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const paths = Array.from({ length: 10_000 }, (_, n) => storePath(`path-${n}`));
    {
      using db = new StoreDatabase(join(dir.path, 'db.sqlite'));
      db.transaction(() => {
        paths.forEach((storePath, n) => {
          const references = [paths[n - 1], paths[n >> 1]].filter((path) => path !== undefined && path !== storePath);
          const info = { storePath, narHash: narHashOf(Buffer.alloc(32)), narSize: 112, signatures: [] };
          db.add({ ...info, references: references as StorePath[] }, { lastUsed: n, mark: 'x' });
        });
      });
    }
    for (const path of paths.slice(5000)) writeFileSync(join(dir.path, path), '');
    await store.pin('lower half', [paths[4999] ?? storePath('none')]);
    const start = performance.now();
    const { removed } = await store.collectGarbage({ maxBytes: 0 });
    expect(removed).toEqual(paths.slice(5000).reverse());
    // About 1 s; quadratic it would be minutes.
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(await readdir(join(dir.path, 'nix/store'))).toEqual([]);
  });
});

describe('planCollection()', () => {
  const names = Array.from({ length: 12 }, (_, n) => storePath(`p${n}`));
  const indices = fc.array(fc.nat(11), { maxLength: 4 });
  const graph = fc
    .record({
      uses: fc.array(fc.record({ narSize: fc.integer({ min: 1, max: 9 }), lastUsed: fc.nat(5), below: indices }), {
        maxLength: 12,
      }),
      roots: indices,
    })
    .map(({ uses, roots }): StoreGraph => {
      const name = (n: number) => names[n] ?? storePath('none');
      const edges = uses.flatMap(({ below }, n) => [...new Set(below)].filter((to) => to < n).map((to) => [n, to]));
      return {
        uses: uses.map(({ narSize, lastUsed }, n) => ({ path: name(n), narSize, lastUsed })),
        references: edges.map(([from = 0, to = 0]) => ({ referrer: name(from), reference: name(to) })),
        roots: roots.map(name),
      };
    });

  it('keeps roots and what is needed, removes no more than it must, referrers first', () => {
    fc.assert(
      fc.property(graph, fc.nat(60), (store, maxBytes) => {
        const { victims, keptBytes, protectedBytes } = planCollection(store, maxBytes);
        const order = victims.map(({ path }) => path);
        const left = keptBytes - victims.reduce((sum, { narSize }) => sum + narSize, 0);
        for (const root of store.roots) expect(order).not.toContain(root);
        for (const { referrer, reference } of store.references) {
          if (!order.includes(reference)) continue;
          expect(order.indexOf(referrer)).toBeGreaterThanOrEqual(0);
          expect(order.indexOf(referrer)).toBeLessThan(order.indexOf(reference));
        }
        expect(left <= maxBytes || left === protectedBytes).toBe(true);
        const last = victims.at(-1);
        if (last !== undefined) expect(left + last.narSize).toBeGreaterThan(maxBytes);
      }),
    );
  });
});
