import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { createCurve, createServer } from '@nats-io/nkeys';
import { toPublicError } from '@nex-nix/errors';
import { type Logger, silentLogger } from '@nex-nix/nexlet';
import { type FeedEvent, followEvents, followLogs, NexClient } from '@nex-nix/protocol';
import { startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Node, type NodeOptions, startNode } from '../src/index.ts';
import { memoryNexlet } from './memory-nexlet.ts';

let server: TestNatsServer;
let dir: TempDir;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  dir = await tempDir();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

let count = 0;

async function start(options: Partial<NodeOptions> = {}): Promise<Node> {
  const name = `node-${++count}`;
  return startNode(await server.connect(), { name, stateDir: join(dir.path, name), version: '0.1.0', ...options });
}

const client = async (namespace?: string) =>
  new NexClient(await server.connect(), namespace === undefined ? {} : { namespace });
const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };

describe('a node and our client', () => {
  it('places, lists and stops a workload; its logs and events arrive', async () => {
    const nexlet = memoryNexlet();
    await using node = await start({ nexlets: [nexlet.definition] });
    const nex = await client('default');
    const nc = await server.connect();
    await using logs = followLogs(nc, { namespace: 'default' });
    await using events = followEvents(nc, { from: 'default' });
    await nc.flush();

    const placed = await nex.startWorkload(echo);
    expect(placed).toEqual({ id: expect.any(String) as unknown, name: 'echo', nodeId: node.id, nodeName: 'node-1' });
    const { value: line } = (await logs[Symbol.asyncIterator]().next()) as { value: { data: Uint8Array } };
    expect(line).toMatchObject({ namespace: 'default', workloadId: placed.id, stream: 'stdout' });
    expect(new TextDecoder().decode(line.data)).toBe('echo started');
    const event = (await events[Symbol.asyncIterator]().next()) as { value: FeedEvent };
    expect(event.value).toEqual({ from: 'default', name: 'WORKLOADSTARTED', body: { id: placed.id } });

    const { workloads, errors, nodes } = await nex.listWorkloads();
    expect(workloads).toMatchObject([{ id: placed.id, name: 'echo', namespace: 'default' }]);
    expect({ errors, nodes }).toEqual({ errors: [], nodes: 1 });
    const system = await client();
    expect(await system.stopWorkload(placed.id)).toMatchObject({ stopped: true, id: placed.id });
    await expect(system.stopWorkload(placed.id)).rejects.toMatchObject({
      code: 'NEX_WORKLOAD_NOT_FOUND',
      kind: 'not-found',
    });
    expect((await nex.listWorkloads()).workloads).toEqual([]);
  });

  it('finds nodes and their nexlets', async () => {
    await using one = await start({ nexlets: [memoryNexlet().definition], tags: { region: 'lab' } });
    await using two = await start();
    const nex = await client();
    expect((await nex.pingNodes()).nodes.map((node) => node.node_id).sort()).toEqual([one.id, two.id].sort());
    expect((await nex.pingNodes({ filter: { region: 'lab' }, expected: 1 })).nodes.map((node) => node.node_id)).toEqual(
      [one.id],
    );
    expect((await nex.nodeInfo(one.id)).node_agent_summaries).toMatchObject([{ agent_health: 'healthy' }]);
    expect((await nex.nodeInfo(two.id)).node_agent_summaries).toBeUndefined();
    await expect(nex.nodeInfo('NOBODY')).rejects.toMatchObject({ code: 'NEX_NODE_NOT_FOUND' });
  });

  it('says why nobody can run a workload, within two seconds', async () => {
    const nex = await client();
    await expect(nex.startWorkload(echo)).rejects.toMatchObject({ code: 'NEX_NO_NODES', kind: 'unreachable' });
    const small = memoryNexlet({ name: 'small', type: 'small', maxWorkloads: 1 });
    await using running = new AsyncDisposableStack();
    running.use(await start({ nexlets: [memoryNexlet().definition, small.definition] }));
    running.use(await start({ tags: { region: 'moon' } }));
    await nex.startWorkload({ ...echo, type: 'small' });
    const started = Date.now();
    const failed = await Promise.allSettled([
      nex.startWorkload({ ...echo, type: 'nix', tags: { region: 'lab' } }),
      nex.startWorkload({ ...echo, type: 'native' }),
      nex.startWorkload({ ...echo, type: 'small' }),
      nex.startWorkload({ ...echo, lifecycle: 'function' }),
      nex.startWorkload({ ...echo, runRequest: {} }),
    ]);
    expect(Date.now() - started).toBeLessThan(2_000);
    const reasons = [
      /^No node can run a workload of type "nix": 2 nodes seen \(.*\), each lacks tag region=lab$/,
      /^No node can run a workload of type "native": 2 nodes seen \(.*\), each .*nexlet of type "native"/,
      /^No node can run a workload of type "small": 2 nodes seen: .*nexlet of type "small"/,
      /^No node can run a workload of type "memory": 2 nodes seen: .*function/,
      /^Cannot start workload "echo": its run request is not valid, field "program" is required$/,
    ];
    for (const [index, result] of failed.entries()) {
      expect(result.status === 'rejected' && toPublicError(result.reason).message).toMatch(reasons[index] ?? /^$/);
    }
  });

  it("hands on a nexlet's error", async () => {
    await using running = new AsyncDisposableStack();
    running.use(await start({ nexlets: [memoryNexlet().definition] }));
    const failing = (await client()).startWorkload({ ...echo, runRequest: { program: 'x', fail: true } });
    await expect(failing).rejects.toMatchObject({ code: 'NEX_PEER_FAILED', message: 'told to fail' });
  });

  it('reports a stop that fails as what it is', async () => {
    const nexlet = memoryNexlet({ stop: () => Promise.reject(new Error('it does not die')) });
    await using running = new AsyncDisposableStack();
    running.use(await start({ nexlets: [nexlet.definition] }));
    const nex = await client();
    const { id } = await nex.startWorkload(echo);
    await expect(nex.stopWorkload(id)).rejects.toMatchObject({
      code: 'NEX_PEER_FAILED',
      message: 'failed to stop workload: it does not die',
    });
  });

  it('lists nothing, rather than an error, on a node without nexlets', async () => {
    await using running = new AsyncDisposableStack();
    running.use(await start());
    expect(await (await client()).listWorkloads()).toMatchObject({ workloads: [], errors: [], nodes: 1 });
  });
});

describe('the life of a node', () => {
  it('keeps its identity, in a file for itself alone', async () => {
    const stateDir = join(dir.path, 'kept');
    const ids: string[] = [];
    for (let run = 0; run < 2; run++) {
      await using node = await start({ stateDir });
      ids.push(node.id, node.xkey);
    }
    expect(ids.slice(2)).toEqual(ids.slice(0, 2));
    const file = join(stateDir, 'identity');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, 'utf8')).toMatch(/^SN[A-Z2-7]{56}\nSX[A-Z2-7]{56}\n$/);
    await writeFile(file, 'damaged\n');
    await expect(start({ stateDir })).rejects.toMatchObject({ code: 'NODE_IDENTITY_INVALID' });
  });

  it('refuses to run twice', async () => {
    const stateDir = join(dir.path, 'twin');
    await using running = new AsyncDisposableStack();
    running.use(await start({ stateDir }));
    await expect(start({ stateDir })).rejects.toMatchObject({ code: 'NODE_ALREADY_RUNNING', kind: 'refused' });
  });

  it.each([
    [{ tags: { 'nex.os': 'plan9' } }, 'can not use reserved tag prefix: nex.'],
    [{ nexus: 'a.b' }, 'Cannot use nexus "a.b"'],
    [{ version: 'one' }, '"one" is not a semantic version'],
    [{ nexlets: [memoryNexlet({ name: 'a b' }).definition] }, 'Cannot run nexlet "a b"'],
    [{ nexlets: [memoryNexlet({ ready: () => Promise.reject(new Error('not ready')) }).definition] }, 'not ready'],
  ])('refuses the options %j and leaves nothing behind', async (options, message) => {
    await expect(start(options)).rejects.toThrow(message);
    expect(await (await client()).pingNodes()).toMatchObject({ nodes: [] });
  });

  it('beats, and says when it starts, becomes lame duck and stops', async () => {
    const nc = await server.connect();
    await using events = followEvents(nc);
    const beats = nc.subscribe('$NEX.SVC.system.control.HEARTBEAT.*', { max: 1 });
    await nc.flush();
    const nexlet = memoryNexlet();
    const node = await start({ nexlets: [nexlet.definition], heartbeatMs: 20 });
    for await (const beat of beats)
      expect(beat.json()).toEqual({ registrations: expect.stringMatching(/^\w{22} \[memory\]$/) as unknown });
    await node.lameduck(60_000);
    await node[Symbol.asyncDispose]();
    expect(await node.closed).toBe('stopped');
    const seen: FeedEvent[] = [];
    for await (const event of events) {
      seen.push(event);
      if (event.name === 'NODESTOPPED') break;
    }
    const names = ['NODESTARTED', 'AGENTSTARTED', 'AGENTLAMEDUCKSET', 'NODELAMEDUCKSET', 'AGENTSTOPPED', 'NODESTOPPED'];
    expect(seen.map(({ from, name }) => `${from} ${name}`)).toEqual(names.map((name) => `${node.id} ${name}`));
    const id = expect.stringMatching(/^\w{22}$/) as unknown;
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown;
    expect(seen.slice(1).map(({ body }) => body)).toEqual([
      { id, name: 'memory', register_type: 'memory' },
      { success: true },
      { id: node.id, time },
      { id, name: 'memory', reason: 'the node ends', timestamp: time },
      { id: node.id },
    ]);
    expect(seen[0]?.body).toMatchObject({ id: node.id, nexus: 'nexus', type: 'io.synadia.nex.event.nexnode_started' });
    expect(nexlet.calls).toEqual(['lameduck 60000', 'close']);
  });

  it('tells nothing, or only its log, where that is wanted', async () => {
    const nc = await server.connect();
    const heard: string[] = [];
    nc.subscribe('$NEX.FEED.>', { callback: (_error, msg) => void heard.push(msg.subject) });
    await nc.flush();
    const logged: unknown[] = [];
    const logger: Logger = {
      ...silentLogger,
      info: ({ event }, message) => void (message === 'event emitted' && logged.push(event)),
      child: () => logger,
    };
    for (const events of ['none', 'logs'] as const) {
      const node = await start({ events, logger, nexlets: [memoryNexlet().definition] });
      await node[Symbol.asyncDispose]();
      expect(logged).toHaveLength(events === 'none' ? 0 : 4);
    }
    await nc.flush();
    expect(logged).toEqual(['NODESTARTED', 'AGENTSTARTED', 'AGENTSTOPPED', 'NODESTOPPED']);
    expect(heard).toEqual([]);
  });

  it('takes an identity that is given, whole or in part', async () => {
    const seed = (pair: { getSeed(): Uint8Array }) => new TextDecoder().decode(pair.getSeed());
    const [server, curve] = [createServer(), createCurve()];
    const stateDir = join(dir.path, 'given');
    {
      await using node = await start({ stateDir, nodeSeed: seed(server), xkeySeed: seed(curve) });
      expect([node.id, node.xkey]).toEqual([server.getPublicKey(), curve.getPublicKey()]);
      expect(node.xkeyPair.getPublicKey()).toBe(node.xkey);
    }
    {
      await using node = await start({ stateDir, nodeSeed: seed(server) });
      expect(node.id).toBe(server.getPublicKey());
      expect(node.xkey).not.toBe(curve.getPublicKey());
    }
    for (const given of [{ nodeSeed: seed(createCurve()) }, { nodeSeed: 'SNX' }, { xkeySeed: seed(server) }]) {
      await expect(start({ stateDir, ...given })).rejects.toMatchObject({ code: 'NODE_OPTION_INVALID' });
    }
  });

  it('makes the stream that keeps logs and events, where that is wanted', async () => {
    await using own = await startNatsServer();
    const nc = await own.connect();
    const options = { name: 'r', stateDir: join(dir.path, 'retaining'), version: '0.1.0', state: 'none' as const };
    await using running = new AsyncDisposableStack();
    running.use(await startNode(nc, { ...options, retain: true, nexlets: [memoryNexlet().definition] }));
    const manager = await jetstreamManager(nc);
    const kept = await waitFor('an event to be kept', async () => {
      const { state } = await manager.streams.info('NEX_FEED', { subjects_filter: '$NEX.FEED.*.events.>' });
      return Object.keys(state.subjects ?? {}).length >= 2 ? state.subjects : undefined;
    });
    expect(Object.keys(kept).map((subject) => subject.split('.').at(-1))).toContain('NODESTARTED');
  });

  it('takes no work as a lame duck and then ends', async () => {
    const nexlet = memoryNexlet();
    const node = await start({ nexlets: [nexlet.definition] });
    const nex = await client();
    const { bids } = await nex.auction({ type: 'memory' });
    expect(bids).toHaveLength(1);
    const answer = await nex.lameduck(node.id, { delay: 900 });
    expect(answer).toMatchObject({
      success: true,
      message: expect.stringMatching(
        /^node entering lameduck mode, will shutdown at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/,
      ) as unknown,
    });
    const [ping] = (await nex.pingNodes()).nodes;
    expect(ping).toMatchObject({ state: 'lameduck', tags: { 'nex.lameduck': 'true' } });
    expect((await nex.auction({ type: 'memory', timeout: 200 })).bids).toEqual([]);
    expect(await node.closed).toBe('lameduck');
    expect(nexlet.calls).toEqual(['lameduck 900', 'close']);
    expect((await nex.pingNodes()).nodes).toEqual([]);
  });

  it('closes its nexlets first, and is disposed once', async () => {
    const nexlet = memoryNexlet();
    const node = await start({ nexlets: [nexlet.definition] });
    await Promise.all([node[Symbol.asyncDispose](), node[Symbol.asyncDispose]()]);
    await node[Symbol.asyncDispose]();
    expect(nexlet.calls).toEqual(['close']);
    expect(await node.closed).toBe('stopped');
  });

  it('ends when its connection is closed for good', async () => {
    const nc = await server.connect();
    const nexlet = memoryNexlet();
    const options = { name: 'c', stateDir: join(dir.path, 'c'), version: '0.1.0', nexlets: [nexlet.definition] };
    const node = await startNode(nc, options);
    await nc.close();
    expect(await node.closed).toBe('stopped');
    expect(nexlet.calls).toEqual(['close']);
  });

  it('comes back with its nexlets when the NATS server does', async () => {
    await using own = await startNatsServer({ jetstream: false });
    const nc = await own.connect({ maxReconnectAttempts: -1, reconnectTimeWait: 50 });
    const options = {
      name: 'r',
      stateDir: join(dir.path, 'r'),
      version: '0.1.0',
      nexlets: [memoryNexlet().definition],
    };
    await using running = new AsyncDisposableStack();
    running.use(await startNode(nc, options));
    await own.restart();
    const nex = new NexClient(await own.connect());
    const placed = await waitFor('a workload to be placed', () => nex.startWorkload(echo).catch(() => undefined));
    expect(placed.name).toBe('echo');
  });

  it('ends within seconds when the NATS server is gone', async () => {
    const own = await startNatsServer({ jetstream: false });
    const nc = await own.connect({ maxReconnectAttempts: -1 });
    const nexlet = memoryNexlet();
    const options = { name: 'g', stateDir: join(dir.path, 'g'), version: '0.1.0', nexlets: [nexlet.definition] };
    const node = await startNode(nc, options);
    const statuses = nc.status();
    process.kill(own.pid, 'SIGKILL');
    for await (const status of statuses) if (status.type === 'disconnect') break;
    const started = Date.now();
    await node[Symbol.asyncDispose]();
    expect(Date.now() - started).toBeLessThan(5_000);
    expect(nexlet.calls).toEqual(['close']);
    await own[Symbol.asyncDispose]();
  });
});
