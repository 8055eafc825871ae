// A nexlet in a process of its own, against a scripted node that restarts, forgets it, falls silent and goes away.
import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  localEnvironment,
  type NexletDefinition,
  type NodeWatchTimes,
  readLocalEnvironment,
  runLocalNexlet,
} from '../src/index.ts';
import { creds, request, ScriptedNode } from './scripted-node.ts';
import { testDefinition } from './test-definition.ts';

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

/** What Go nodes set, and nothing else. */
const goEnvironment = (): Record<string, string> => ({
  NEX_AGENT_NATS_SERVERS: server.url,
  NEX_AGENT_NATS_USER_SEED: '',
  NEX_AGENT_NATS_B64_JWT: '',
  NEX_AGENT_NATS_USER: '',
  NEX_AGENT_NATS_PASSWORD: '',
  NEX_AGENT_NATS_USER_NKEY: '',
  NEX_AGENT_NODE_ID: node.id,
  NEX_AGENT_ASSIGNED_ID: 'a1',
});

const run = (definition: NexletDefinition, watch: NodeWatchTimes = {}) =>
  runLocalNexlet(definition, { env: goEnvironment(), watch });

describe('readLocalEnvironment()', () => {
  it('reads what a Go node sets', () => {
    const env = {
      ...goEnvironment(),
      NEX_AGENT_NATS_SERVERS: 'nats://a:4222,nats://b:4222',
      NEX_AGENT_NATS_USER_SEED: 'SU',
      NEX_AGENT_NATS_B64_JWT: 'YS5iLmM=',
      NEX_AGENT_NATS_USER: 'joe',
      NEX_AGENT_NATS_PASSWORD: 'secret',
      NEX_AGENT_NATS_USER_NKEY: 'U',
    };
    expect(readLocalEnvironment(env)).toEqual({
      registration: creds(['nats://a:4222', 'nats://b:4222'], {
        conn_name: 'a1',
        nats_user_jwt: 'a.b.c',
        nats_user_seed: 'SU',
        nats_user_name: 'joe',
        nats_user_password: 'secret',
        nats_user_nkey: 'U',
      }),
      nodeId: node.id,
      agentId: 'a1',
    });
    expect(readLocalEnvironment({ ...env, NEX_AGENT_NATS_SERVERS: '' }).registration.nats_servers).toEqual([]);
  });

  it('gives back what nodes of this project set, nexus and TLS files included', () => {
    const tls = { tls_ca: '/ca.pem', tls_cert: '/cert.pem', tls_key: '/key.pem', tls_first: true };
    const registration = readLocalEnvironment(goEnvironment()).registration;
    const assignment = { registration: { ...registration, ...tls }, nodeId: 'N', agentId: 'a1', nexus: 'lab' };
    expect(readLocalEnvironment(localEnvironment(assignment))).toEqual(assignment);
  });

  it.each(['NEX_AGENT_NATS_SERVERS', 'NEX_AGENT_NODE_ID', 'NEX_AGENT_ASSIGNED_ID'])('requires %s', (name) => {
    const { [name]: _, ...env } = goEnvironment();
    expect(() => readLocalEnvironment(env)).toThrow(
      expect.objectContaining({
        code: 'NEXLET_ENVIRONMENT_INVALID',
        kind: 'usage',
        message: `Cannot run as a local nexlet: the variable ${name} is not set`,
      }),
    );
  });
});

describe('runLocalNexlet()', () => {
  it('runs with the variables of a Go node, which do not name the nexus', async () => {
    await using nexlet = await run(testDefinition().definition);
    expect(nexlet.agentId).toBe('a1');
    expect(node.registrations[0]?.subject).toBe(`$NEX.SVC.${node.id}.agent.REGISTER.a1`);
    expect((await node.start('a1', 'w1', request('web'))).json()).toEqual({ id: 'w1', name: 'web' });
  });

  it('registers again, with its id and key, when the node was restarted, and keeps its workloads', async () => {
    const { definition, started, renewed } = testDefinition();
    await using nexlet = await run(definition);
    await node.start('a1', 'w1', request('web'));
    node.heartbeat('other', 'a1');
    await node.flush();
    const entry = (name: string) => ({
      request: request(name),
      workload_creds: creds([server.url], { conn_name: `fresh ${name}` }),
    });
    const state = { w1: entry('web'), w2: entry('db'), w3: entry('bad'), w4: { request: null }, w5: 'nonsense' };
    // Jobs that have begun: one that runs still, and one that does not.
    await node.start('a1', 'w6', request('job'));
    const renewals = {
      w6: creds([server.url], { conn_name: 'fresh job' }),
      w7: creds([server.url], { conn_name: 'fresh other' }),
    };
    node.answer = () => node.success({ existing_state: state, renewals });
    expect(node.registrations).toHaveLength(1);
    const before = node.beats.length;
    node.heartbeat('other');
    await waitFor('the registration', () => node.registrations.length === 2);
    expect(node.registrations[1]?.body).toEqual(node.registrations[0]?.body);
    expect(node.registrations[1]?.body['public_xkey']).toBe(nexlet.xkey);
    await waitFor('the workloads', () => started.has('w2') && renewed.length === 2);
    expect(Object.fromEntries(renewed)).toEqual({ w1: 'fresh web', w6: 'fresh job' });
    expect(started.get('w2')).toMatchObject({ existing: true, credentials: { conn_name: 'fresh db' } });
    expect([...started.keys()]).toEqual(['w1', 'w6', 'w2']);
    await waitFor('heartbeats at once', () => node.beats.length > before);
    expect(await node.list('system')).toEqual(['w1', 'w6', 'w2']);
  });

  it('takes a workload that has ended for one to start', async () => {
    const { definition, started, renewed } = testDefinition();
    const list = async () =>
      (await testDefinition().definition.list({ namespace: 'system', filter: [] })).concat({
        id: 'w1',
        name: 'web',
        runtime: '--',
        start_time: '',
        tags: {},
        workload_lifecycle: 'service',
        workload_state: 'error',
        workload_type: 'test',
      });
    node.answer = () =>
      node.success({ existing_state: { w1: { request: request('web'), workload_creds: creds([server.url]) } } });
    await using running = new AsyncDisposableStack();
    running.use(await run({ ...definition, list }));
    await waitFor('the start', () => started.get('w1')?.existing);
    expect(renewed).toEqual([]);
  });

  it('ends by itself when the node is gone', async () => {
    const { definition, calls } = testDefinition();
    const nexlet = await run(definition, { silence: 300, ping: 100 });
    node.heartbeat('a1');
    await node.flush();
    node[Symbol.dispose]();
    expect(await nexlet.closed).toMatchObject({
      code: 'NEXLET_NODE_GONE',
      message: `Nexlet "test_exec" is at no node any more: node "${node.id}" is gone`,
    });
    expect(calls).toEqual(['ready', 'close']);
    await expect(nc.request(`$NEX.SVC.${node.id}.agent.PING`)).rejects.toThrow('no responders');
  });

  it('stays with a node that only its heartbeats are missed of, and with one that was never heard', async () => {
    const silent = testDefinition();
    const heard = testDefinition();
    await using nexlet = await run(silent.definition, { silence: 50, ping: 50 });
    node.answerPings();
    const other = new ScriptedNode(nc, { id: `${node.id}-heard`, servers: [server.url] });
    other.answerPings();
    let pings = 0;
    nc.subscribe(`$NEX.SVC.system.control.PING.${other.id}`, { callback: () => void pings++ });
    await node.flush();
    const env = { ...goEnvironment(), NEX_AGENT_NODE_ID: other.id };
    await using second = await runLocalNexlet(heard.definition, { env, watch: { silence: 50, ping: 500 } });
    other.heartbeat('a1');
    await waitFor('the node to be asked again and again', () => pings >= 3);
    expect([silent.calls, heard.calls]).toEqual([['ready'], ['ready']]);
    expect((await node.ask('PING', '')).json()).toMatchObject({ state: 'running' });
    expect([nexlet.nodeId, second.nodeId]).toEqual([node.id, other.id]);
  });

  it('ends when the node knows it no more and refuses it three times', async () => {
    const nexlet = await run(testDefinition().definition);
    node.answer = () => ({ code: '500', error: 'failed to update registration' });
    for (let refused = 2; refused <= 4; refused++) {
      node.heartbeat();
      await waitFor('a registration', () => node.registrations.length === refused);
      // An answer that is not in yet would make the next heartbeat one that says nothing new.
      await node.ask('PING', '').catch(() => undefined);
    }
    expect(await nexlet.closed).toMatchObject({
      code: 'NEXLET_NODE_GONE',
      message: expect.stringContaining('does not take it back') as unknown,
    });
  });

  it('does not mind heartbeats that make no sense', async () => {
    await using nexlet = await run(testDefinition().definition);
    const subject = `$NEX.SVC.system.control.HEARTBEAT.${node.id}`;
    for (const body of ['', '{', '[]', '{"registrations":7}']) nc.publish(subject, body);
    node.heartbeat('a1');
    expect((await node.ask('PING', '')).json()).toMatchObject({ state: 'running' });
    expect(node.registrations).toHaveLength(1);
    expect(nexlet.agentId).toBe('a1');
  });
});
