import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PushProgress } from '@nex-nix/cache';
import { copyClosure, LocalStore, parseStorePath, requireTrust, type StorePath } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { SUBJECTS } from '../src/protocol/protocol.ts';
import { addClosure, noise, startCache } from './fixture.ts';

describeWith(['nats-server'], 'push and pull', () => {
  it('brings a closure through NATS into an empty store', async () => {
    await using test = await startCache();
    const { data, lib, app } = await addClosure(test.source);
    const progress: PushProgress[] = [];
    const report = await test.cache.push(test.source, [app.storePath], { onProgress: (step) => progress.push(step) });

    const narBytes = data.narSize + lib.narSize + app.narSize;
    expect(report).toMatchObject({ paths: { total: 3, pushed: 3, present: 0 }, narBytes });
    expect(report.chunks.sent).toBeLessThan(report.chunks.total);
    expect(report.sentBytes).toBeLessThan(narBytes);
    expect(progress.at(-1)).toEqual({
      paths: { done: 3, total: 3 },
      narBytes: { done: narBytes, total: narBytes },
      sentBytes: report.sentBytes,
    });
    const done = progress.map(({ narBytes }) => narBytes.done);
    expect(done).toEqual([...done].sort((a, b) => a - b));

    const closure = await test.cache.closure([app.storePath]);
    expect(closure.map(({ storePath }) => storePath)).toEqual([data, lib, app].map(({ storePath }) => storePath));
    for (const info of closure) requireTrust(info, [test.cache.publicKey]);

    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const copied = await copyClosure(test.cache, store, [app.storePath], { trustedKeys: [test.cache.publicKey] });
    expect(copied).toEqual({ copied: closure.map(({ storePath }) => storePath), narBytes });
    expect(await readFile(join(store.realPath(data.storePath), 'big.bin'))).toEqual(noise(3 << 20));

    const stat = await test.cache.stat();
    expect(stat).toMatchObject({ paths: 3, chunks: report.chunks.sent });
    expect(stat.storedBytes).toBeGreaterThan(report.sentBytes);
  });

  it('asks for many chunks at once, and does not stall when they are more than it holds', async () => {
    await using test = await startCache();
    const app = await test.source.add('app-1', { 'big.bin': noise(40 << 20) });
    let questions = 0;
    test.nc.subscribe(SUBJECTS.have, { callback: () => void questions++ });
    const { chunks } = await test.cache.push(test.source, [app.storePath], { concurrency: 1 });
    expect(chunks.total).toBeGreaterThan(100);
    expect(chunks.sent).toBe(chunks.total);
    expect(questions).toBeLessThan(chunks.total / 4);
  });

  it('reads and sends nothing of what the cache has', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    await test.cache.push(test.source, [app.storePath]);
    test.source.read.length = 0;
    const again = await test.cache.push(test.source, [app.storePath]);
    expect(again).toMatchObject({
      paths: { total: 3, pushed: 0, present: 3 },
      narBytes: 0,
      chunks: { total: 0, sent: 0 },
      sentBytes: 0,
    });
    expect(test.source.read).toEqual([]);
  });

  it('sends the changed chunks of a changed path only', async () => {
    await using test = await startCache();
    const content = noise(8 << 20, 5);
    const before = await test.source.add('tool-1', { 'bin/tool': content });
    const first = await test.cache.push(test.source, [before.storePath]);
    const changed = Buffer.concat([content.subarray(0, 4_000_000), Buffer.from('new'), content.subarray(4_000_000)]);
    const after = await test.source.add('tool-2', { 'bin/tool': changed });
    const second = await test.cache.push(test.source, [after.storePath]);
    expect(first.chunks.sent).toBeGreaterThan(20);
    expect(second.chunks.total).toBeGreaterThan(20);
    expect(second.chunks.sent).toBeLessThanOrEqual(3);
  });

  it('sends a chunk once when two paths of a push share it, also when two pushes run at once', async () => {
    await using test = await startCache();
    const files = { 'same.bin': noise(2 << 20, 7) };
    const twins = [await test.source.add('twin-1', files), await test.source.add('twin-2', files)];
    const roots = twins.map(({ storePath }) => storePath);
    const report = await test.cache.push(test.source, roots);
    expect(report.chunks.total).toBe(2 * report.chunks.sent);

    const { app } = await addClosure(test.source);
    const both = await Promise.all([1, 2].map(async () => test.cache.push(test.source, [app.storePath])));
    const sent = both.reduce((sum, { chunks }) => sum + chunks.sent, 0);
    expect(await test.cache.stat()).toMatchObject({ paths: 5, chunks: report.chunks.sent + sent });
    expect(await test.cache.closure([app.storePath])).toHaveLength(3);
  });

  it('fetches a chunk once that several paths of a closure have, or one of them twice', async () => {
    await using test = await startCache();
    const files = { 'same.bin': noise(2 << 20, 7) };
    const leaf = await test.source.add('leaf', { ...files, 'zeros.bin': Buffer.alloc(8 << 20) });
    const root = await test.source.add('root', files, { references: [leaf.storePath] });
    const { chunks } = await test.cache.push(test.source, [root.storePath]);
    expect(chunks.total).toBeGreaterThan(chunks.sent + 8);
    let requests = 0;
    test.nc.subscribe('$JS.API.DIRECT.GET.NIX_CHUNKS.>', { callback: () => void requests++ });
    await test.nc.flush();
    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    await copyClosure(test.cache, store, [root.storePath], { trustedKeys: [test.cache.publicKey] });
    await test.nc.flush();
    expect(requests).toBe(chunks.sent);
    expect(await readFile(join(store.realPath(root.storePath), 'same.bin'))).toEqual(files['same.bin']);
  });

  it('can be interrupted and repeated; nothing half-done is ever visible', async () => {
    await using test = await startCache();
    const { lib } = await addClosure(test.source);
    const data = await test.source.add('large', { 'large.bin': noise(12 << 20, 9) }, { references: [lib.storePath] });
    const app = await test.source.add('top', { file: 'top' }, { references: [data.storePath] });
    const controller = new AbortController();
    const interrupted = test.cache.push(test.source, [app.storePath], {
      signal: controller.signal,
      onProgress: ({ narBytes }) => {
        if (narBytes.done > 1 << 20) controller.abort(new Error('enough'));
      },
    });
    await expect(interrupted).rejects.toThrow('enough');
    expect(await test.cache.pathInfo(data.storePath)).toBeUndefined();
    await expect(test.cache.closure([app.storePath])).rejects.toMatchObject({ code: 'CACHE_PATH_NOT_FOUND' });

    const { chunks } = await test.cache.push(test.source, [app.storePath]);
    expect(chunks.sent).toBeGreaterThan(0);
    expect(chunks.sent).toBeLessThan(chunks.total);
    expect(await test.cache.closure([app.storePath])).toHaveLength(4);
  });

  it('carries closures that do not fit into one message, and many paths', async () => {
    await using test = await startCache();
    const signature = (i: number) => `filler-${i}:${noise(64, i % 256).toString('base64')}`;
    const signatures = Array.from({ length: 2500 }, (_, i) => signature(i));
    const leaves: StorePath[] = [];
    for (let i = 0; i < 6; i++) {
      leaves.push((await test.source.add(`signed-${i}`, { file: String(i) }, { signatures })).storePath);
    }
    for (let i = 0; i < 100; i++) leaves.push((await test.source.add(`leaf-${i}`, { file: String(i) })).storePath);
    const root = await test.source.add('root', { file: 'root' }, { references: leaves });
    const report = await test.cache.push(test.source, [root.storePath]);
    expect(report.paths.pushed).toBe(107);
    const closure = await test.cache.closure([root.storePath]);
    expect(closure).toHaveLength(107);
    expect(closure.at(-1)?.storePath).toBe(root.storePath);
    expect(closure.find(({ storePath }) => storePath === leaves[0])?.signatures).toHaveLength(2501);
  });

  it('names the path that it does not have, and what refers to it', async () => {
    await using test = await startCache();
    const absent = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
    expect(await test.cache.pathInfo(absent)).toBeUndefined();
    await expect(test.cache.closure([absent])).rejects.toMatchObject({
      name: 'CacheError',
      code: 'CACHE_PATH_NOT_FOUND',
      kind: 'not-found',
      storePath: absent,
      message: `Cannot find "${absent}": it is not in the NATS cache`,
    });
    await expect(test.cache.push(test.source, [absent])).rejects.toMatchObject({ code: 'NIX_PATH_NOT_FOUND' });
  });

  it('does not list a path whose source gives another NAR than its path info says', async () => {
    await using test = await startCache();
    const { data } = await addClosure(test.source);
    const lying = {
      name: 'a liar',
      pathInfo: async () => ({ ...data, narSize: data.narSize + 1 }),
      nar: () => test.source.nar(data),
    };
    await expect(test.cache.push(lying, [data.storePath])).rejects.toMatchObject({ code: 'CACHE_NAR_MISMATCH' });
    expect((await test.cache.stat()).paths).toBe(0);
  });
});
