// What Nex 0.4 peers may send, and what they must get: raw messages, written from the protocol reference.
import { createXKey, natsConnectionData, openEnvironment, sealEnvironment, seedOfXKey } from '@nex-nix/protocol';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type NexletDefinition, runNexlet } from '../src/index.ts';
import { creds, request, ScriptedNode } from './scripted-node.ts';
import { summaryOf, testDefinition } from './test-definition.ts';

let server: TestNatsServer;
let nc: NatsConnection;
let node: ScriptedNode;
let count = 0;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

beforeEach(async () => {
  nc = await server.connect();
  node = new ScriptedNode(nc, { id: `NODE${++count}`, servers: [server.url] });
  await node.flush();
});

afterEach(async () => {
  await nc.close();
});

const run = (definition: NexletDefinition, more: object = {}) => {
  const registration = natsConnectionData({ nats_servers: [server.url] });
  return runNexlet(definition, { registration, nodeId: node.id, nexus: 'nexus', agentId: 'a1', ...more });
};

/** All replies to a request, as somebody reads them who waits a while. */
async function replies(subject: string, body: string): Promise<Msg[]> {
  const found: Msg[] = [];
  for await (const msg of await nc.requestMany(subject, body, { strategy: 'timer', maxWait: 200 })) found.push(msg);
  return found;
}

describe('the registration', () => {
  it.each([
    ['null for what is empty', () => ({ existing_state: null, message: null })],
    [
      'null in the connection data',
      () => ({ connection_data: { ...creds([server.url]), conn_name: null, tls_ca: null } }),
    ],
    ['keys that nobody knows', () => ({ connection_data: { ...creds([server.url]), more: 1 }, more: { a: [] } })],
    ['no message, no node id, no state', () => ({ message: undefined, node_id: undefined, existing_state: undefined })],
    ['connection data of a few keys', () => ({ connection_data: { nats_servers: [server.url] } })],
    ['no server, as nodes with a context give', () => ({ connection_data: creds([]) })],
    ['null for the servers', () => ({ connection_data: { ...creds([]), nats_servers: null } })],
    ['nonsense for the state', () => ({ existing_state: { w1: 1, w2: null, w3: { request: {} } } })],
  ])('may be answered with %s', async (_title, more) => {
    node.answer = () => node.success(more());
    await using nexlet = await run(testDefinition().definition);
    expect((await node.ask('PING', '')).json()).toMatchObject({ state: 'running' });
    expect(nexlet.agentId).toBe('a1');
  });

  it.each([
    ['', 'the reply of the node is not JSON'],
    ['{"success":tr', 'the reply of the node is not JSON'],
    ['[]', 'the reply of the node is no object'],
    [{ success: true }, 'field "connection_data" is required'],
    [{ success: true, connection_data: { nats_servers: 'nats://a' } }, 'field "connection_data.nats_servers" must be'],
    [{ success: false, message: 'no room' }, 'no room'],
    [{ success: false, message: '' }, 'the node refuses it'],
    [{ code: '403', error: 'failed agent registrar check' }, 'failed agent registrar check'],
  ])('is refused by %j', async (answer, why) => {
    const { definition, calls } = testDefinition();
    node.answer = () => answer;
    await expect(run(definition)).rejects.toMatchObject({
      code: 'NEXLET_REGISTRATION_REFUSED',
      message: expect.stringContaining(`Cannot register nexlet "test_exec": `) as unknown,
    });
    await expect(run(definition)).rejects.toThrow(why);
    expect(calls).toEqual([]);
  });

  it('is not spoilt by a node that listens to heartbeats only after its reply', async () => {
    const late: string[] = [];
    await using nexlet = await run(testDefinition().definition);
    await waitFor('the first heartbeat', () => node.beats.length === 1);
    nc.subscribe(`$NEX.SVC.${node.id}.agent.HEARTBEAT.a1`, { callback: (_error, msg) => void late.push(msg.string()) });
    await waitFor('one within the second', () => late.length > 0, { timeout: 1_500 });
    expect(nexlet.nodeId).toBe(node.id);
  });
});

describe('the endpoints', () => {
  it('are a micro service with the queue group, the names and the subjects of Nex 0.4', async () => {
    await using nexlet = await run(testDefinition().definition);
    const [info] = await replies('$SRV.INFO.test_exec', '');
    expect(info?.json()).toMatchObject({ type: 'io.nats.micro.v1.info_response', name: 'test_exec', version: '1.0.0' });
    const { endpoints } = info?.json<{ endpoints: { name: string; subject: string; queue_group: string }[] }>() ?? {};
    const agent = `$NEX.SVC.${node.id}.agent`;
    expect(Object.fromEntries(endpoints?.map(({ name, subject }) => [name, subject]) ?? [])).toEqual({
      StartWorkload: `${agent}.a1.STARTWORKLOAD.*`,
      StopWorkload: `${agent}.STOPWORKLOAD.*`,
      GetWorkload: `${agent}.GETWORKLOAD.*`,
      QueryWorkloads: `${agent}.QUERYWORKLOADS`,
      PingAgent: `${agent}.a1.PING`,
      PingAllAgents: `${agent}.PING`,
      SetLameduck: `${agent}.SETLAMEDUCK`,
      WorkloadDiscovery: '$NEX.SVC.nexus.agent.PINGWORKLOAD.*',
    });
    expect(new Set(endpoints?.map(({ queue_group: queue }) => queue))).toEqual(new Set([nexlet.agentId]));
  });

  it.each([
    ['QUERYWORKLOADS', '{'],
    ['QUERYWORKLOADS', '{"namespace":"default"}'],
    ['SETLAMEDUCK', '{"delay":"soon"}'],
    ['SETLAMEDUCK', ''],
    ['STOPWORKLOAD.w1', '[]'],
    ['a1.STARTWORKLOAD.w1', 'null'],
  ])('answer %s with %j once, with code 100', async (verb, body) => {
    await using nexlet = await run(testDefinition().definition);
    const found = await replies(`$NEX.SVC.${node.id}.agent.${verb}`, body);
    expect(found.map((msg) => msg.headers?.get('Nats-Service-Error-Code'))).toEqual(['100']);
    expect(found[0]?.headers?.get('Nats-Service-Error')).not.toBe('');
    expect((await node.ask(`${nexlet.agentId}.PING`, '')).json()).toMatchObject({ state: 'running' });
  });

  it('are silent about workloads that are elsewhere', async () => {
    await using nexlet = await run(testDefinition().definition);
    expect(await replies(`$NEX.SVC.nexus.agent.PINGWORKLOAD.w9`, '')).toEqual([]);
    expect(await replies(`$NEX.SVC.${node.id}.agent.GETWORKLOAD.w9`, 'null')).toEqual([]);
    expect(nexlet.agentId).toBe('a1');
  });

  it('list null filters and metadata that the definition gives', async () => {
    const { definition, started } = testDefinition();
    const list = async () => [...started.values()].map((one) => ({ ...summaryOf(one), metadata: { exit_code: '3' } }));
    await using nexlet = await run({ ...definition, list });
    await node.start(nexlet.agentId, 'w1', request('web', { tags: null, metadata: { a: 1 }, reference: 'r' }));
    const found = await node.ask('QUERYWORKLOADS', '{"namespace":"default","filter":null}');
    expect(found.json()).toMatchObject([{ id: 'w1', metadata: { exit_code: '3', node_id: node.id } }]);
  });

  it('open what is sealed for the stable key of the nexlet, and name the key to seal a clone for', async () => {
    const key = createXKey();
    const sender = createXKey();
    const opened: unknown[] = [];
    const targets: unknown[] = [];
    const { definition } = testDefinition({
      start: async ({ workloadId: id, runRequest, xkey }) => {
        opened.push(openEnvironment(runRequest as Parameters<typeof openEnvironment>[0], xkey));
        return { id, name: '' };
      },
      get: async (_id, options) => void targets.push(options?.newTargetXkey),
    });
    await using nexlet = await run(definition, { xkeySeed: seedOfXKey(key) });
    expect(nexlet.xkey).toBe(key.getPublicKey());
    expect(node.registrations[0]?.body['public_xkey']).toBe(nexlet.xkey);
    const sealed = sealEnvironment({ TOKEN: 'secret' }, { sender, recipient: nexlet.xkey });
    await node.start('a1', 'w1', request('web', { run_request: JSON.stringify(sealed) }));
    expect(opened).toEqual([{ TOKEN: 'secret' }]);
    await replies(`$NEX.SVC.${node.id}.agent.GETWORKLOAD.w1`, '{"namespace":"default","new_target_xkey":"XC"}');
    await replies(`$NEX.SVC.${node.id}.agent.GETWORKLOAD.w1`, '{}');
    expect(targets).toEqual(['XC', undefined]);
  });

  it('go on in the heartbeats while the list of workloads hangs, with the last number that is known', async () => {
    const { definition, started } = testDefinition();
    let hangs = false;
    const never = new Promise<never>(() => undefined);
    const list = async () => (hangs ? never : [...started.values()].map(summaryOf));
    await using nexlet = await run({ ...definition, list });
    await node.start('a1', 'w1', request('web'));
    await waitFor('a heartbeat that counts it', () => node.beats.at(-1)?.workloads === 1);
    hangs = true;
    const before = node.beats.length;
    for (let start = 2; start <= 4; start++) await node.start('a1', `w${start}`, request('web'));
    await waitFor('heartbeats', () => node.beats.length >= before + 3, { timeout: 2_000 });
    expect(node.beats.at(-1)).toMatchObject({ state: 'running', workloads: 1 });
    expect((await node.ask('a1.PING', '')).json()).toMatchObject({ workload_count: 1 });
    expect(nexlet.nodeId).toBe(node.id);
  });
});

it('a nexlet beats as soon as its server is back, and takes requests', async () => {
  await using own = await startNatsServer({ jetstream: false });
  const ownNc = await own.connect({ maxReconnectAttempts: -1, reconnectTimeWait: 20 });
  using ownNode = new ScriptedNode(ownNc, { id: 'NODE', servers: [own.url] });
  await ownNode.flush();
  const registration = natsConnectionData({ nats_servers: [own.url] });
  const { definition } = testDefinition();
  await using nexlet = await runNexlet(definition, { registration, nodeId: 'NODE', nexus: 'nexus', agentId: 'a1' });
  await waitFor('the first heartbeats', () => ownNode.beats.length >= 3);
  await own.restart();
  const restarted = Date.now();
  await waitFor('a heartbeat', () => ownNode.beats.some(({ time }) => time >= restarted), { timeout: 3_000 });
  expect((await ownNode.ask('PING', '')).json()).toMatchObject({ state: 'running' });
  expect(nexlet.agentId).toBe('a1');
});
