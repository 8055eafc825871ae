import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { runNexlet, type RunningNexlet, silentLogger } from '@nex-nix/nexlet';
import {
  agentSubjects,
  createXKey,
  type FeedEvent,
  followEvents,
  natsConnectionData,
  NexClient,
  RegisterAgentResponse,
  requestOne,
  seedOfXKey,
  type StartWorkloadRequest,
} from '@nex-nix/protocol';
import { describeWith, startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Node, type NodeOptions, startNode } from '../src/index.ts';
import { KvState } from '../src/state/kv-state.ts';
import { type MemoryNexlet, memoryNexlet } from './memory-nexlet.ts';

const RECONCILE_MS = 150;

describeWith(['nats-server'], 'the desired state of a node', () => {
  let server: TestNatsServer;
  let dir: TempDir;
  let nc: NatsConnection;
  let client: NexClient;
  let count = 0;

  beforeAll(async () => {
    server = await startNatsServer();
    dir = await tempDir();
    nc = await server.connect();
    client = new NexClient(nc, { namespace: 'default', stall: 50 });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });

  /** Each node of one test has the same identity; types are a test's own, so that nodes of others do not bid. */
  const freshName = () => `state-${++count}`;
  const start = (name: string, options: Partial<NodeOptions> = {}): Promise<Node> =>
    startNode(nc, {
      name,
      stateDir: join(dir.path, name),
      version: '0.1.0',
      reconcileMs: RECONCILE_MS,
      logger: silentLogger,
      ...options,
    });
  const nexletOf = (type: string) => memoryNexlet({ type, name: 'memory' });
  const place = async (type: string, name: string, more: object = {}) =>
    (await client.startWorkload({ type, name, lifecycle: 'service', runRequest: { program: name }, ...more })).id;
  const kept = async (nodeId: string) => KvState.open(jetstream(nc), { nodeId, logger: silentLogger });
  const started = (nexlet: MemoryNexlet, name: string) =>
    nexlet.calls.filter((call) => call === `start ${name}`).length;
  /** A nexlet that does not end with the node. */
  const attach = (nexlet: MemoryNexlet, node: Node, { agentId, seed }: { agentId: string; seed: string }) =>
    runNexlet(nexlet.definition, {
      registration: natsConnectionData({ nats_servers: [server.url] }),
      nodeId: node.id,
      nexus: 'nexus',
      agentId,
      xkeySeed: seed,
    });
  const newSeed = () => seedOfXKey(createXKey());

  it('outlives it: the next one runs services again, and not what was stopped, was refused, or is a job that ran', async () => {
    const type = freshName();
    const before = nexletOf(type);
    const ids: Record<string, string> = {};
    let nodeId: string;
    {
      await using node = await start(type, { nexlets: [before.definition] });
      nodeId = node.id;
      ids['kept'] = await place(type, 'kept', { metadata: { team: 'a' } });
      ids['stopped'] = await place(type, 'stopped');
      ids['job'] = await place(type, 'job', { lifecycle: 'job' });
      await expect(place(type, 'refused', { runRequest: { program: 'x', fail: true } })).rejects.toThrow(
        'told to fail',
      );
      await client.stopWorkload(ids['stopped']);
      await waitFor('the job to be known as begun', async () => {
        return (await kept(nodeId)).get(ids['job'] ?? '')?.progress === 'started';
      });
    }
    const after = nexletOf(type);
    await using _node = await start(type, { nexlets: [after.definition] });
    await waitFor('the service', () => after.workloads.has(ids['kept'] ?? ''));
    expect(after.workloads.get(ids['kept'])).toMatchObject({
      existing: true,
      request: { name: 'kept', namespace: 'default', metadata: { team: 'a' } },
      credentials: { nats_servers: [expect.stringContaining('127.0.0.1') as unknown] },
    });
    await waitFor('the job to be forgotten', async () => (await kept(nodeId)).isRemoved(ids['job'] ?? ''));
    expect([...after.workloads.keys()]).toEqual([ids['kept']]);
    const state = await kept(nodeId);
    expect(state.all().map(({ id }) => id)).toEqual([ids['kept']]);
    expect(state.isRemoved(ids['stopped'])).toBe(true);
  });

  it('is in the answer to a nexlet that registers, by its type and name, each time it does', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    await using node = await start(type);
    const register = async (agentId: string, change: object = {}) => {
      const body = {
        description: '',
        max_workloads: 0,
        name: 'memory',
        public_xkey: 'XONE',
        register_type: type,
        start_request_schema: '{}',
        supported_lifecycles: ['service'],
        version: '0.0.0',
        ...change,
      };
      const subject = agentSubjects.register(node.id, agentId);
      const { reply } = await requestOne(nc, subject, JSON.stringify(body), { timeout: 2_000 });
      return RegisterAgentResponse.decode(reply?.data ?? '', subject);
    };
    const existingOf = async (...args: Parameters<typeof register>) => (await register(...args)).existing_state;
    const seed = newSeed();
    let id: string;
    let job: string;
    {
      await using nexus = await attach(nexlet, node, { agentId: 'one', seed });
      await untilThere(nexus);
      id = await place(type, 'echo');
      job = await place(type, 'job', { lifecycle: 'job' });
      await waitFor('the job to be known as begun', async () => {
        return (await kept(node.id)).get(job)?.progress === 'started';
      });
    }
    await untilAway(node.id, 'one');
    const { existing_state: existing, renewals } = await register('two');
    expect(Object.keys(existing)).toEqual([id]);
    expect(existing[id]?.request).toMatchObject({ name: 'echo', workload_type: type, namespace: 'default' });
    expect(existing[id]?.workload_creds.nats_servers).toHaveLength(1);
    // A job that has begun is not to be started again, but may run still.
    expect(Object.keys(renewals ?? {})).toEqual([job]);
    expect(renewals?.[job]?.nats_servers).toHaveLength(1);
    expect(await existingOf('two')).toHaveProperty(id);
    // What one nexlet has, another of the same name does not get; nor does one of another name or type.
    expect(await existingOf('three', { public_xkey: 'XTWO' })).toEqual({});
    expect(await existingOf('four', { name: 'other' })).toEqual({});
    expect(await existingOf('five', { register_type: `${type}2` })).toEqual({});
  });

  it('takes in what runs and nobody wrote down', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    await using node = await start(type, { nexlets: [nexlet.definition] });
    const request: StartWorkloadRequest = {
      description: '',
      name: 'stray',
      namespace: 'default',
      run_request: '{"program":"stray"}',
      tags: {},
      workload_lifecycle: 'service',
      workload_type: type,
    };
    const id = await place(type, 'model');
    const model = nexlet.workloads.get(id);
    if (model === undefined) throw new Error('nothing was started');
    nexlet.workloads.set('stray1', { ...model, workloadId: 'stray1', request });
    const found = await waitFor('the entry', async () => (await kept(node.id)).get('stray1'));
    expect(found).toMatchObject({ request, progress: 'started' });
    expect(started(nexlet, 'stray')).toBe(0);
  });

  it('brings back a service that its nexlet has lost, once, and tells when that does not succeed', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    const events = collect(followEvents(nc, { from: 'default' }));
    await using _node = await start(type, { nexlets: [nexlet.definition] });
    const id = await place(type, 'lost');
    nexlet.workloads.clear();
    await waitFor('it to be back', () => nexlet.workloads.has(id));
    expect(nexlet.workloads.get(id)).toMatchObject({ existing: false, request: { name: 'lost' } });
    await settle();
    expect(started(nexlet, 'lost')).toBe(2);

    const broken = await place(type, 'broken');
    const model = nexlet.workloads.get(broken);
    nexlet.gate = Promise.reject(new Error('no room'));
    nexlet.gate.catch(() => undefined);
    nexlet.workloads.delete(broken);
    const event = await waitFor('the event', () =>
      events.find(({ name, body }) => name === 'WORKLOADSTOPPED' && (body as { id: string }).id === broken),
    );
    expect(event.body).toEqual({
      id: broken,
      namespace: 'default',
      workload_type: type,
      error: { code: 'NOT_STARTED_AGAIN', message: 'no room' },
    });
    await settle();
    // It waits before it tries again.
    expect(started(nexlet, 'broken')).toBe(2);
    expect(model).toBeDefined();
  });

  it('starts nothing again while a nexlet does not say what it has', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    const end = Promise.withResolvers<[]>();
    const mute = memoryNexlet({ type: `${type}-mute`, name: 'mute', list: () => end.promise });
    await using node = await start(type, { nexlets: [nexlet.definition] });
    const id = await place(type, 'gone');
    await using _mute = await attach(mute, node, { agentId: 'mute', seed: newSeed() });
    await settle();
    nexlet.workloads.clear();
    await settle();
    expect(nexlet.workloads.has(id)).toBe(false);
    end.resolve([]);
    await waitFor('it to be back', () => nexlet.workloads.has(id));
  });

  it('stops what was stopped while its nexlet was away, when it is back', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    const who = { agentId: 'away', seed: newSeed() };
    await using node = await start(type);
    let id: string;
    {
      await using first = await attach(nexlet, node, who);
      await untilThere(first);
      id = await place(type, 'echo');
    }
    await untilAway(node.id, 'away');
    expect(nexlet.workloads.has(id)).toBe(true);
    const shown = await waitFor('it to be shown', async () =>
      (await client.listWorkloads({ expected: 1 })).workloads.find((one) => one.id === id),
    );
    expect(shown).toMatchObject({ workload_state: 'error', metadata: { reason: 'its nexlet is away' } });
    await expect(client.stopWorkload(id)).rejects.toThrow(/is away; the workload is stopped as soon as it is back/);
    await using _again = await attach(nexlet, node, who);
    await waitFor('its end', () => !nexlet.workloads.has(id));
    expect(started(nexlet, 'echo')).toBe(1);
    await settle();
    expect(nexlet.workloads.size).toBe(0);
  });

  it('keeps the workloads of two nexlets of one name apart over a restart', async () => {
    const type = freshName();
    const [one, two] = [nexletOf(type), nexletOf(type)];
    const keys = [
      { agentId: 'one', seed: newSeed() },
      { agentId: 'two', seed: newSeed() },
    ] as const;
    const ids: string[] = [];
    const runBoth = async (node: Node) => {
      const stack = new AsyncDisposableStack();
      stack.use(await attach(one, node, keys[0]));
      stack.use(await attach(two, node, keys[1]));
      return stack;
    };
    {
      await using node = await start(type);
      await using _both = await runBoth(node);
      await waitFor('both to have one', async () => {
        ids.push(await place(type, `w${ids.length}`));
        return one.workloads.size > 0 && two.workloads.size > 0;
      });
    }
    await using node = await start(type);
    await using _both = await runBoth(node);
    await settle();
    await settle();
    const all = [...one.workloads.keys(), ...two.workloads.keys()];
    expect(all.sort()).toEqual([...ids].sort());
    for (let i = 0; i < ids.length; i++) expect(started(one, `w${i}`) + started(two, `w${i}`)).toBe(1);
  });

  it('is not kept with --state none, and must be kept with --state kv', async () => {
    const type = freshName();
    await using node = await start(type, { state: 'none', nexlets: [nexletOf(type).definition] });
    await place(type, 'echo');
    await expect(
      jetstream(nc)
        .jetstreamManager()
        .then((jsm) => jsm.streams.info(`KV_nex-${node.id}`)),
    ).rejects.toThrow('stream not found');
    await using bare = await startNatsServer({ jetstream: false });
    const connection = await bare.connect();
    const options = { name: 'x', stateDir: join(dir.path, 'x'), version: '0.1.0' };
    await expect(startNode(connection, { ...options, state: 'kv' })).rejects.toMatchObject({
      code: 'NODE_STATE_UNAVAILABLE',
    });
    await using _without = await startNode(connection, options);
  });

  it('that cannot be written refuses the deployment, and its nexlet hears nothing of it', async () => {
    const type = freshName();
    const nexlet = nexletOf(type);
    await using node = await start(type, { nexlets: [nexlet.definition] });
    const jsm = await jetstream(nc).jetstreamManager();
    const stream = `KV_nex-${node.id}`;
    const { config } = await jsm.streams.info(stream);
    await jsm.streams.update(stream, { ...config, max_msg_size: 10 });
    await expect(place(type, 'echo')).rejects.toThrow(/Cannot store the desired state of workload/);
    expect(nexlet.calls).toEqual([]);
    await jsm.streams.update(stream, { ...config, max_msg_size: -1 });
    await place(type, 'echo');
    expect(nexlet.calls).toEqual(['start echo']);
  });

  /** Time enough for several comparisons: what is tested is that nothing happens. */
  async function settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 6 * RECONCILE_MS + 600));
  }

  async function untilAway(nodeId: string, agentId: string): Promise<void> {
    await waitFor('the nexlet to be gone', async () => {
      const info = await new NexClient(nc).nodeInfo(nodeId);
      return !info.node_agent_summaries?.some((one) => one.agent_id === agentId);
    });
  }

  /** Until the node has its heartbeat, and bids for it. */
  async function untilThere(nexlet: RunningNexlet): Promise<void> {
    await waitFor('the nexlet to be healthy', async () => {
      const info = await new NexClient(nc).nodeInfo(nexlet.nodeId);
      return info.node_agent_summaries?.some(
        (one) => one.agent_id === nexlet.agentId && one.agent_health === 'healthy',
      );
    });
  }
});

function collect(events: AsyncIterable<FeedEvent>): FeedEvent[] {
  const found: FeedEvent[] = [];
  void (async () => {
    for await (const event of events) found.push(event);
  })();
  return found;
}
