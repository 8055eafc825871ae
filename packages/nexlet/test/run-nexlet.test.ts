// Our nexlet against a scripted node that behaves as a Go node does.
import { natsConnectionData } from '@nex-nix/protocol';
import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type NexletDefinition, runNexlet, type StartContext } from '../src/index.ts';
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

const registration = () => natsConnectionData({ nats_servers: [server.url], conn_name: 'first' });
const run = (definition: NexletDefinition, more: object = {}) =>
  runNexlet(definition, { registration: registration(), nodeId: node.id, nexus: 'nexus', agentId: 'a1', ...more });
const ask = (verb: string, body: unknown) => node.ask(verb, body);
const start = (id: string, body: object) => node.start('a1', id, body);

describe('runNexlet()', () => {
  it('registers with every key, then beats at once, after a quarter and after a whole second', async () => {
    const { definition } = testDefinition();
    await using nexlet = await run(definition);
    expect(node.registrations).toEqual([
      {
        subject: `$NEX.SVC.${node.id}.agent.REGISTER.a1`,
        body: {
          description: '',
          max_workloads: 0,
          name: 'test_exec',
          public_xkey: nexlet.xkey,
          register_type: 'test',
          start_request_schema: '{"type":"object"}',
          supported_lifecycles: ['service', 'job'],
          version: '1.0.0',
        },
      },
    ]);
    await waitFor('three heartbeats', () => node.beats.length >= 3, { timeout: 3_000 });
    const [first = 0, second = 0, third = 0] = node.beats.map((beat) => beat.time);
    expect(second - first).toBeGreaterThanOrEqual(240);
    expect(third - first).toBeGreaterThanOrEqual(990);
    expect(JSON.parse(String(node.beats[0]?.body['data']))).toEqual({ register_type: 'test' });
    expect(node.beats[0]?.body['summary']).toEqual({
      name: 'test_exec',
      start_time: expect.any(String) as unknown,
      state: 'running',
      supported_lifecycles: 'service,job',
      type: 'test',
      version: '1.0.0',
      workload_count: 0,
    });
  });

  it('serves the node: start, list, get, ping, stop', async () => {
    const { definition, started } = testDefinition();
    await using running = new AsyncDisposableStack();
    running.use(await run(definition));
    expect((await start('w1', request('web'))).json()).toEqual({ id: 'w1', name: 'web' });
    expect(started.get('w1')).toMatchObject({ runRequest: { x: 1 }, existing: false, credentials: { conn_name: 'w' } });
    await start('w2', request('db', { namespace: 'other' }));

    expect(await node.list('default')).toEqual(['w1']);
    expect(await node.list('system')).toEqual(['w1', 'w2']);
    expect(await node.list('system', ['db'])).toEqual(['w2']);
    expect(await node.list('default', ['w2'])).toEqual([]);
    const [summary] = (await ask('QUERYWORKLOADS', { namespace: 'default', filter: null })).json<object[]>();
    expect(summary).toMatchObject({ id: 'w1', metadata: { node_id: node.id } });

    expect((await ask('GETWORKLOAD.w1', {})).json()).toMatchObject({ name: 'web', run_request: '{"x":1}' });
    const ping = await ask('PING', {});
    expect(ping.headers?.get('agentId')).toBe('a1');
    expect(ping.json()).toMatchObject({ workload_count: 2, state: 'running' });
    expect((await ask('a1.PING', {})).json()).toMatchObject({ type: 'test' });

    const foreign = await ask('STOPWORKLOAD.w2', { namespace: 'default' });
    expect(foreign.headers?.get('Nats-Service-Error-Code')).toBe('100');
    expect(foreign.json()).toEqual({ id: 'w2', message: 'workload not found', stopped: false, workload_type: '' });
    expect(started.has('w2')).toBe(true);
    expect((await ask('STOPWORKLOAD.w2', { namespace: 'other' })).json()).toEqual({
      id: 'w2',
      message: '',
      stopped: true,
      workload_type: 'test',
    });
    const found = await nc.request('$NEX.SVC.nexus.agent.PINGWORKLOAD.w1', '', { timeout: 2_000 });
    expect(found.json()).toEqual({ node_id: node.id });
  });

  it('is silent about workloads that it does not have', async () => {
    await using running = new AsyncDisposableStack();
    running.use(await run(testDefinition().definition));
    await expect(nc.request(`$NEX.SVC.${node.id}.agent.GETWORKLOAD.w9`, '{}', { timeout: 200 })).rejects.toThrow(
      'timeout',
    );
  });

  it('answers what it cannot do with code 100 and one line, and goes on', async () => {
    await using running = new AsyncDisposableStack();
    running.use(await run(testDefinition().definition));
    const bad = await start('w1', request('bad'));
    expect(bad.headers?.get('Nats-Service-Error-Code')).toBe('100');
    expect(bad.headers?.get('Nats-Service-Error')).toBe('bad name');
    expect(bad.json()).toMatchObject({ id: 'w1', name: 'bad', error: 'bad\nname' });
    const broken = await start('w1', request('web', { run_request: '{' }));
    expect(broken.json()).toMatchObject({
      error: 'Cannot start workload "web": its run request is not JSON',
      error_kind: 'usage',
    });
    expect((await start('w1', {})).headers?.get('Nats-Service-Error')).toContain(
      'field "request.description" is required',
    );
    expect((await ask('QUERYWORKLOADS', {})).headers?.get('Nats-Service-Error-Code')).toBe('100');
    expect((await start('w1', request('web'))).json()).toEqual({ id: 'w1', name: 'web' });
  });

  it('takes back what the node says it runs, and survives what it cannot take back', async () => {
    const entry = (name: string) => ({ request: request(name), workload_creds: creds([server.url]) });
    node.answer = () => node.success({ existing_state: { w1: entry('bad'), w2: entry('web') } });
    const { definition, started } = testDefinition();
    await using running = new AsyncDisposableStack();
    running.use(await run(definition));
    await waitFor('the workload to be back', () => started.has('w2'));
    expect(started.get('w2')?.existing).toBe(true);
    expect((await start('w3', request('more'))).json()).toEqual({ id: 'w3', name: 'more' });
  });

  it('tells the node when it becomes lame duck, and when it ends', async () => {
    const delays: number[] = [];
    const { definition } = testDefinition({ lameduck: async (delay) => void delays.push(delay) });
    const nexlet = await run(definition);
    expect((await ask('SETLAMEDUCK', { delay: '1m30s' })).json()).toEqual({ success: true, message: '' });
    expect(delays).toEqual([90_000]);
    await waitFor('a lame duck heartbeat', () => node.beats.at(-1)?.state === 'lameduck');
    await nexlet[Symbol.asyncDispose]();
    await nexlet[Symbol.asyncDispose]();
    await waitFor('the last heartbeat', () => node.beats.at(-1)?.state === 'stopping');
    await expect(ask('PING', {})).rejects.toThrow('no responders');
  });

  it('adopts before it serves, publishes while it closes, and waits for what is under way', async () => {
    const order: string[] = [];
    const lines: string[] = [];
    nc.subscribe('$NEX.FEED.default.logs.*.*', {
      callback: (_error, msg) => {
        expect(msg.headers?.get('synadia.com/namespace')).toBe('default');
        expect(msg.headers?.has('synadia.com/group')).toBe(true);
        lines.push(msg.data.length > 100 ? `${msg.data.length} bytes` : msg.string());
      },
    });
    let feeds: StartContext['feeds'] | undefined;
    const gate = Promise.withResolvers<void>();
    const { definition } = testDefinition({
      ready: async (given) => {
        feeds = given;
        order.push('ready');
      },
      start: async ({ workloadId: id }) => {
        order.push('start');
        await gate.promise;
        order.push('started');
        return { id, name: '' };
      },
      close: async () => {
        feeds?.log('default', 'w1', 'stdout', 'closing');
        feeds?.log('default', 'w1', 'stderr', Buffer.alloc(40_000));
        order.push('close');
      },
    });
    const nexlet = await run(definition);
    const starting = start('w1', request('web'));
    await waitFor('the start to be under way', () => order.includes('start'));
    const closing = nexlet[Symbol.asyncDispose]();
    await waitFor('the definition to be closed', () => order.includes('close'));
    gate.resolve();
    await closing;
    expect((await starting).json()).toEqual({ id: 'w1', name: '' });
    expect(order).toEqual(['ready', 'start', 'close', 'started']);
    await waitFor('what it published', () => lines.length === 3);
    expect(lines).toEqual(['closing', '32768 bytes', '7232 bytes']);
    feeds?.log('default', 'w1', 'stdout', 'too late, and no error');
  });

  it.each([
    [{ success: false, message: 'no room' }, 'Cannot register nexlet "test_exec": no room'],
    [{ success: undefined }, 'field "success" is required'],
  ])('is told why the node does not want it: %j', async (response, message) => {
    node.answer = () => node.success(response);
    await expect(run(testDefinition().definition)).rejects.toMatchObject({
      code: 'NEXLET_REGISTRATION_REFUSED',
      message: expect.stringContaining(message) as unknown,
    });
  });

  it('says when there is no node, no server, or no semantic version', async () => {
    const { definition } = testDefinition();
    node[Symbol.dispose]();
    await expect(run(definition)).rejects.toMatchObject({ code: 'NEXLET_NODE_UNREACHABLE', kind: 'unreachable' });
    await expect(run({ ...definition, version: '1' })).rejects.toMatchObject({ code: 'NEXLET_DEFINITION_INVALID' });
    const nowhere = natsConnectionData({ nats_servers: ['nats://user:secret@127.0.0.1:1'] });
    const failing = run(definition, { registration: nowhere });
    await expect(failing).rejects.toMatchObject({
      code: 'NEXLET_NATS_UNREACHABLE',
      message: 'Cannot connect a nexlet to NATS at nats://127.0.0.1:1: connection refused',
    });
  });
});
