// A nexlet that no node has started, against scripted nodes of one nexus.
import { natsConnectionData } from '@nex-nix/protocol';
import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectWith, runRemoteNexlet, type RunRemoteNexletOptions, silentLogger } from '../src/index.ts';
import { creds, request, ScriptedNode } from './scripted-node.ts';
import { testDefinition } from './test-definition.ts';

const USERS = `authorization { users = [
  { user: all, password: all },
  { user: mute, password: mute, permissions: { publish: "nothing", subscribe: "_INBOX.>" } } ] }`;

let server: TestNatsServer;
let nc: NatsConnection;
let nexus: string;
let count = 0;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false, config: USERS });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

beforeEach(async () => {
  nc = await server.connect({ user: 'all', pass: 'all' });
  nexus = `nexus${++count}`;
});

afterEach(async () => {
  await nc.close();
});

const access = (user: string) => ({ nats_user_name: user, nats_user_password: user });
const own = (user = 'all') => natsConnectionData({ nats_servers: [server.url], ...access(user) });
const retry = { first: 20, longest: 50 };
const watch = { silence: 300, ping: 100 };

const run = (definition = testDefinition().definition, options: Partial<RunRemoteNexletOptions> = {}) =>
  runRemoteNexlet(definition, { connection: own(), nexus, retry, watch, ...options });

async function startNode(name: string): Promise<ScriptedNode> {
  const node = new ScriptedNode(nc, { id: `${name}${count}`, servers: [server.url] });
  node.answer = () => node.success({ connection_data: creds([server.url], access('all')) });
  await node.flush();
  return node;
}

/** How a node takes a remote nexlet in. */
const place = (node: ScriptedNode, agentId: string, registration: unknown = creds([server.url], access('all'))) => ({
  assigned_agent_id: agentId,
  respond_to: node.id,
  registration_creds: registration,
});

describe('runRemoteNexlet()', () => {
  it('asks until a node takes it: nobody there, a refusal, nonsense, a node that is gone, then one that works', async () => {
    const running = run();
    await using stack = new AsyncDisposableStack();
    stack.defer(async () => (await running)[Symbol.asyncDispose]());
    const node = await startNode('N');
    const answers = [
      { code: '500', error: 'failed to mint register' },
      'nonsense',
      { assigned_agent_id: 'a0' },
      { ...place(node, 'a0'), respond_to: 'GONE' },
      place(node, 'a1'),
    ];
    let asked = 0;
    node.takeRemote(nexus, (attempt) => {
      asked = attempt;
      return answers[attempt - 1] ?? 'nonsense';
    });
    const nexlet = await running;
    expect(asked).toBe(5);
    expect([nexlet.agentId, nexlet.nodeId]).toEqual(['a1', node.id]);
    expect(node.registrations.map(({ subject }) => subject)).toEqual([`$NEX.SVC.${node.id}.agent.REGISTER.a1`]);
    const found = (await node.start('a1', 'w1', request('web'))).json();
    expect(found).toEqual({ id: 'w1', name: 'web' });
    expect((await nc.request(`$NEX.SVC.${nexus}.agent.PINGWORKLOAD.w1`)).json()).toEqual({ node_id: node.id });
  });

  it('goes to another node when its own is gone, and its workloads and feeds go on there', async () => {
    const first = await startNode('first');
    const second = await startNode('second');
    let current = first;
    first.takeRemote(nexus, () => place(current, current === first ? 'a1' : 'a2'));
    const { definition, started, calls } = testDefinition();
    await using nexlet = await run(definition);
    await first.start('a1', 'w1', request('web'));
    const feeds = started.get('w1')?.feeds;
    first.heartbeat('a1');
    await first.flush();
    current = second;
    first[Symbol.dispose]();
    second.takeRemote(nexus, () => place(second, 'a2'));
    await second.flush();
    await waitFor('the other node to hear of it', () => second.beats.some((beat) => beat.workloads === 1));
    expect([nexlet.agentId, nexlet.nodeId]).toEqual(['a2', second.id]);
    const [workload] = (await second.ask('QUERYWORKLOADS', { namespace: 'default', filter: null })).json<object[]>();
    expect(workload).toMatchObject({ id: 'w1', metadata: { node_id: second.id } });
    expect(second.registrations[0]?.body['public_xkey']).toBe(nexlet.xkey);
    const lines: string[] = [];
    nc.subscribe('$NEX.FEED.>', { callback: (_error, msg) => void lines.push(`${msg.subject} ${msg.string()}`) });
    await nc.flush();
    feeds?.log('default', 'w1', 'stdout', 'still here');
    feeds?.ingress('w1', '10.0.0.2:80');
    await feeds?.flushed();
    await nc.flush();
    expect(lines).toEqual([
      '$NEX.FEED.default.logs.w1.stdout still here',
      '$NEX.FEED.a2.events.INGRESS {"command":"add","upstream":"10.0.0.2:80","workload_id":"w1"}',
    ]);
    expect(calls).toEqual(['ready']);
    expect((await second.ask('STOPWORKLOAD.w1', { namespace: 'default' })).json()).toMatchObject({ stopped: true });
  });

  it('registers over its own kind of connection when the node gives no credentials for it', async () => {
    const node = await startNode('N');
    node.takeRemote(nexus, () => ({ assigned_agent_id: 'a1', respond_to: node.id }));
    node.answer = () => node.success({ connection_data: creds([], access('all')) });
    await using byData = await run();
    expect(byData.agentId).toBe('a1');
    await using byFunction = await run(undefined, { connection: () => connectWith(own()) });
    expect(byFunction.nodeId).toBe(node.id);
    expect(node.registrations).toHaveLength(2);
  });

  it('gives up looking when it is told to, with the reason why there was no node', async () => {
    const enough = new AbortController();
    const logger = { ...silentLogger, child: () => ({ ...silentLogger, warn: () => enough.abort() }) };
    await expect(run(undefined, { signal: enough.signal, logger })).rejects.toMatchObject({
      code: 'NEXLET_NODE_UNREACHABLE',
      message: `Cannot find a node of nexus "${nexus}": none takes nexlets`,
      hint: 'Start a node that takes them: nex node up --allow-remote-agent-registration',
    });
  });

  it('says at once when its own access to NATS will not do', async () => {
    await expect(run(undefined, { connection: own('nobody') })).rejects.toMatchObject({ code: 'NEXLET_NATS_REFUSED' });
    await expect(run(undefined, { connection: own('mute') })).rejects.toMatchObject({ code: 'NEX_PERMISSION' });
    const nowhere = natsConnectionData({ nats_servers: ['127.0.0.1:1'] });
    await expect(run(undefined, { connection: nowhere })).rejects.toMatchObject({ code: 'NEXLET_NATS_UNREACHABLE' });
  });

  it('does not try elsewhere what no node can mend: a definition that does not get ready', async () => {
    const node = await startNode('N');
    node.takeRemote(nexus, () => place(node, 'a1'));
    const ready = async () => {
      throw new Error('no disk');
    };
    await expect(run(testDefinition({ ready }).definition)).rejects.toThrow('no disk');
    expect(node.registrations).toHaveLength(1);
  });

  it('ends while it looks for the next node', async () => {
    const node = await startNode('N');
    node.takeRemote(nexus, () => place(node, 'a1'));
    const { definition, calls } = testDefinition();
    const nexlet = await run(definition);
    node.heartbeat('a1');
    await node.flush();
    node[Symbol.dispose]();
    await waitFor('the nexlet to leave', async () => {
      const alive = await nc.request(`$NEX.SVC.${node.id}.agent.PING`).then(
        () => true,
        () => false,
      );
      return !alive;
    });
    await nexlet[Symbol.asyncDispose]();
    expect(await nexlet.closed).toBeUndefined();
    expect(calls).toEqual(['ready', 'close']);
  });
});
