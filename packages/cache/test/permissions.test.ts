import { readFile } from 'node:fs/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { copyClosure, generateSecretKey, LocalStore } from '@nex-nix/nix';
import { describeWith, startNatsServer, tempDir, type TestNatsServer } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds, deleteChunk } from './damage-tools.ts';
import { addClosure, TreeSource } from './fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

const DENIED = { code: 'CACHE_PERMISSION_DENIED', kind: 'refused' };
const secretKey = generateSecretKey('test-cache-1');

interface Permissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** The rows of the table "Permissions" of the README, by the beginning of their first cell. */
async function documentedPermissions(): Promise<(who: string) => Permissions> {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const [, section = ''] = /^## Permissions\n(.*?)^## /ms.exec(readme) ?? [];
  const rows = section.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
  const subjects = (cell = '') => Array.from(cell.matchAll(/`([^`]+)`/g), ([, subject = '']) => subject);
  return (who) => {
    const row = rows.find(([, first]) => first?.startsWith(who));
    if (row === undefined) throw new Error(`the README does not say what ${who} may do`);
    return { publish: subjects(row[2]), subscribe: subjects(row[3]) };
  };
}

interface Guarded extends AsyncDisposable {
  readonly server: TestNatsServer;
  connect(user: string): Promise<NatsConnection>;
}

/** A server whose users may do what the README says, and a cache service that is one of them. */
async function startGuarded(): Promise<Guarded> {
  const documented = await documentedPermissions();
  const reader = documented('reader');
  const readerAnd = (...others: readonly Permissions[]): Permissions => ({
    publish: [reader, ...others].flatMap(({ publish }) => publish),
    subscribe: [reader, ...others].flatMap(({ subscribe }) => subscribe),
  });
  const users: Record<string, Permissions> = {
    reader,
    publisher: readerAnd(documented('publisher')),
    pinner: readerAnd(documented('who pins')),
    caretaker: readerAnd(documented('who collects')),
    healer: readerAnd(documented('who heals')),
    service: documented('service'),
    admin: { publish: ['>'], subscribe: ['>'] },
  };
  const lines = Object.entries(users).map(
    ([user, permissions]) => `{ user: ${user}, password: p, permissions: ${JSON.stringify(permissions)} }`,
  );
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer({ config: `authorization { users [${lines.join(', ')}] }` }));
  const connect = async (user: string) => server.connect({ user, pass: 'p' });
  stack.use(await CacheService.start(await connect('service'), { secretKey }));
  const owned = stack.move();
  return { server, connect, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Expects that NATS refuses to take messages on these subjects. */
async function expectRefused(nc: NatsConnection, subjects: readonly string[]): Promise<void> {
  for (const subject of subjects) {
    const asked = nc.request(subject, '{}', { timeout: 5000 });
    await expect(asked, subject).rejects.toThrow(/permissions violation/i);
  }
}

/** Ways around the service: to list, to replace, to delete. */
const PAST_THE_SERVICE = [
  'nixn.x',
  '$KV.nix_narinfo.x',
  '$KV.nix_pins.x',
  '$KV.nix_care.x',
  'nixcx.del',
  '$JS.API.STREAM.MSG.DELETE.NIX_CHUNKS',
  '$JS.API.STREAM.PURGE.NIX_CHUNKS',
  '$JS.API.STREAM.UPDATE.NIX_CHUNKS',
  '$JS.API.STREAM.DELETE.KV_nix_narinfo',
];

describeWith(['nats-server'], 'the permissions that the README names', () => {
  it('are enough for each role, and for no more than its own', async () => {
    await using test = await startGuarded();
    await using source = await TreeSource.open();
    const { app, data } = await addClosure(source);
    const open = async (user: string) => {
      const nc = await test.connect(user);
      return { nc, cache: await NatsCache.open(nc) };
    };
    const [reader, publisher] = [await open('reader'), await open('publisher')];
    const [pinner, caretaker] = [await open('pinner'), await open('caretaker')];

    await expect(reader.cache.push(source, [app.storePath])).rejects.toMatchObject(DENIED);
    expect(await chunkIds(await test.connect('admin'))).toEqual([]);
    await publisher.cache.push(source, [app.storePath]);

    await using dir = await tempDir();
    await using store = await LocalStore.open({ dir: dir.path });
    const trustedKeys = [reader.cache.publicKey];
    expect((await copyClosure(reader.cache, store, [app.storePath], { trustedKeys })).copied).toHaveLength(3);
    expect(await Array.fromAsync(reader.cache.list())).toHaveLength(3);
    expect((await reader.cache.stat()).paths).toBe(3);
    expect(await reader.cache.pins()).toEqual([]);
    expect((await reader.cache.verify()).damaged).toEqual([]);

    for (const { cache } of [reader, publisher, caretaker]) {
      await expect(cache.pin('app', app.storePath)).rejects.toMatchObject(DENIED);
      await expect(cache.unpin('app')).rejects.toMatchObject(DENIED);
    }
    await pinner.cache.pin('app', app.storePath);
    for (const { cache } of [reader, publisher, pinner]) {
      await expect(cache.collectGarbage()).rejects.toMatchObject(DENIED);
      await expect(cache.remove([app.storePath], { force: true })).rejects.toMatchObject(DENIED);
    }
    await caretaker.cache.collectGarbage();
    await expect(caretaker.cache.remove([data.storePath])).rejects.toMatchObject({ code: 'CACHE_PATH_IN_USE' });

    for (const { nc } of [reader, publisher, pinner, caretaker]) await expectRefused(nc, PAST_THE_SERVICE);
    for (const { nc } of [reader, pinner, caretaker]) await expectRefused(nc, ['nixc.x.x', '$NIXCACHE.write.sign']);
    expect((await reader.cache.verify()).damaged).toEqual([]);
  });

  it('are enough to bring a lost chunk back', async () => {
    await using test = await startGuarded();
    await using source = await TreeSource.open();
    const { app } = await addClosure(source);
    const publisher = await NatsCache.open(await test.connect('publisher'));
    await publisher.push(source, [app.storePath]);
    const healer = await NatsCache.open(await test.connect('healer'));
    await using _healing = healer.heal(source);
    const admin = await test.connect('admin');
    const chunks = await chunkIds(admin);
    await deleteChunk(admin, chunks[0] ?? '');
    const reader = await NatsCache.open(await test.connect('reader'));
    const readAll = async () => {
      for (const info of await reader.closure([app.storePath])) {
        for await (const _ of reader.nar(info));
      }
    };
    await vi.waitFor(readAll, { timeout: 30_000, interval: 200 });
    expect(await chunkIds(admin)).toHaveLength(chunks.length);
  });
});
