import { createServer } from 'node:net';
import { once } from 'node:events';
import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { copyClosure, generateSecretKey, LocalStore, type PathInfo, type SecretKey } from '@nex-nix/nix';
import { describeWith, startNatsServer, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { noise, TreeSource } from './fixture.ts';

vi.setConfig({ testTimeout: 120_000 });

const SIZE = 3;
const MIB = 1 << 20;
const CLIENT = { reconnectTimeWait: 50, maxReconnectAttempts: -1 };

interface Cluster extends AsyncDisposable {
  readonly servers: readonly TestNatsServer[];
  /** A connection that knows all servers, to begin with to this one. */
  connect(first: number): Promise<NatsConnection>;
}

/** Three servers on loopback that have found each other, and a leader. */
async function startCluster(): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const ports = await freePorts(SIZE);
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
  const starting = ports.map((port, i) =>
    startNatsServer({
      config: `server_name: s${i}\ncluster { name: c, listen: "127.0.0.1:${port}", routes: [${routes}] }`,
    }),
  );
  const servers: TestNatsServer[] = [];
  for (const result of await Promise.allSettled(starting)) {
    if (result.status === 'rejected') throw result.reason;
    servers.push(stack.use(result.value));
  }
  const connect = async (first: number) => {
    const order = [...servers.slice(first), ...servers.slice(0, first)];
    const urls = order.map(({ port }) => `127.0.0.1:${port}`);
    const nc = await order[0]?.connect({ ...CLIENT, servers: urls, noRandomize: true });
    if (nc === undefined) throw new RangeError(`there is no server ${first}`);
    return nc;
  };
  const nc = await connect(0);
  await waitFor('the cluster to have a leader', () => hasRoomForReplicas(nc), { timeout: 30_000, interval: 100 });
  const owned = stack.move();
  return { servers, connect, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Whether a stream on all servers can be made already: a leader alone does not know the others yet. */
async function hasRoomForReplicas(nc: NatsConnection): Promise<boolean> {
  try {
    const jsm = await jetstreamManager(nc, { timeout: 2000 });
    await jsm.streams.add({ name: 'PROBE', subjects: ['probe'], num_replicas: SIZE });
    return await jsm.streams.delete('PROBE');
  } catch {
    return false;
  }
}

/** Ports of which nobody listens to any, at least not now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

interface ReplicatedCache extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly cache: NatsCache;
  readonly source: TreeSource;
  readonly secretKey: SecretKey;
  readonly service: CacheService;
  readonly top: PathInfo;
  /** The server that leads the stream of the chunks, or the one that the client is connected to. */
  find(which: 'leader' | 'connected'): Promise<TestNatsServer>;
}

async function startReplicatedCache(): Promise<ReplicatedCache> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(await startCluster());
  const source = stack.use(await TreeSource.open());
  const secretKey = generateSecretKey('test-cache-1');
  const service = stack.use(await CacheService.start(await cluster.connect(1), { secretKey, replicas: SIZE }));
  const nc = await cluster.connect(2);
  const cache = await NatsCache.open(nc);
  const large = await source.add('large-1', { 'large.bin': noise(32 * MIB, 3) });
  const top = await source.add('top-1', { 'bin/top': '#!/bin/sh\n' }, { references: [large.storePath] });
  const jsm = await jetstreamManager(nc);
  const owned = stack.move();
  return {
    cluster,
    cache,
    source,
    secretKey,
    service,
    top,
    async find(which) {
      const connected = cluster.servers.findIndex(({ port }) => nc.getServer() === `127.0.0.1:${port}`);
      const leader = Number((await jsm.streams.info('NIX_CHUNKS')).cluster?.leader?.slice(1));
      const found = cluster.servers[which === 'leader' ? leader : connected];
      if (found === undefined) throw new Error(`none of the servers is the ${which} one`);
      return found;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Pulls the closure into an empty store. */
async function pull({ cache, top }: ReplicatedCache, onBytes: (bytes: number) => void = () => undefined) {
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  return await copyClosure(cache, store, [top.storePath], {
    trustedKeys: [cache.publicKey],
    onProgress: ({ copiedBytes }) => onBytes(copiedBytes),
  });
}

/** Kills a server once, as soon as more than `bytes` have moved. */
function losing({ pid }: TestNatsServer, bytes: number) {
  const loss = { happened: false };
  const onBytes = (done: number): void => {
    if (loss.happened || done < bytes) return;
    loss.happened = true;
    process.kill(pid, 'SIGKILL');
  };
  return { onBytes, loss };
}

describeWith(['nats-server'], 'a cluster of three servers with three replicas', () => {
  it.each(['leader', 'connected'] as const)('that loses one in the middle of a push: %s', async (which) => {
    await using test = await startReplicatedCache();
    const { onBytes, loss } = losing(await test.find(which), 8 * MIB);
    const { paths } = await test.cache.push(test.source, [test.top.storePath], {
      onProgress: ({ narBytes }) => onBytes(narBytes.done),
    });
    expect(loss.happened).toBe(true);
    expect(paths.pushed).toBe(2);
    expect((await pull(test)).copied).toHaveLength(2);
  });

  it.each(['leader', 'connected'] as const)('that loses one in the middle of a pull: %s', async (which) => {
    await using test = await startReplicatedCache();
    await test.cache.push(test.source, [test.top.storePath]);
    const { onBytes, loss } = losing(await test.find(which), 4 * MIB);
    const { copied } = await pull(test, onBytes);
    expect(loss.happened).toBe(true);
    expect(copied).toHaveLength(2);
  });

  it('one of which was down while paths were removed, collected and pushed, and is asked when it is back', async () => {
    await using test = await startReplicatedCache();
    const { cluster, cache, source, top } = test;
    await cache.push(source, [top.storePath]);
    const down = await followerOfAll(await cluster.connect(0));
    const near = await NatsCache.open(await cluster.connect((down + 1) % SIZE));
    // In good order: of one that is killed, the others know only after minutes that nobody reads from it.
    process.kill(cluster.servers[down]?.pid ?? 0, 'SIGTERM');
    const old = (await near.closure([top.storePath])).map(({ storePath }) => storePath);
    await near.remove(old, { force: true });
    expect((await near.collectGarbage({ grace: 0 })).chunks).toBeGreaterThan(50);
    const fresh = await source.add('fresh-1', { 'fresh.bin': noise(8 * MIB, 4) });
    await near.push(source, [fresh.storePath]);
    await cluster.servers[down]?.restart();

    // Service and client are where nothing of this is known yet.
    const far = await cluster.connect(down);
    await using _service = await CacheService.start(far, { secretKey: test.secretKey, replicas: SIZE });
    await test.service[Symbol.asyncDispose]();
    const farCache = await NatsCache.open(far);
    expect((await farCache.closure([fresh.storePath])).map(({ storePath }) => storePath)).toEqual([fresh.storePath]);
    await expect(farCache.closure([top.storePath])).rejects.toMatchObject({ code: 'CACHE_PATH_NOT_FOUND' });
    expect((await farCache.push(source, [top.storePath])).paths.pushed).toBe(2);
    expect((await pull({ ...test, cache: farCache })).copied).toHaveLength(2);
    expect(await near.verify()).toMatchObject({ checkedPaths: 3, damaged: [], broken: [] });
    await near.collectGarbage({ grace: 0 });
    expect((await pull({ ...test, cache: near })).copied).toHaveLength(2);
  });
});

/** A server that leads none of the streams of the cache, after it has been asked to give them away. */
async function followerOfAll(nc: NatsConnection): Promise<number> {
  const jsm = await jetstreamManager(nc);
  const last = SIZE - 1;
  await waitFor(`server ${last} to lead no stream`, async () => {
    let leads = false;
    for await (const { config, cluster: state } of jsm.streams.list()) {
      if (state?.leader !== undefined && state.leader !== `s${last}`) continue;
      leads = true;
      await nc.request(`$JS.API.STREAM.LEADER.STEPDOWN.${config.name}`);
    }
    return !leads;
  });
  return last;
}
