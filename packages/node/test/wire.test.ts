// The node as a Go client sees it: raw requests and raw replies, written from the protocol page and not by our client.
import { type Msg, type NatsConnection, RequestError, TimeoutError } from '@nats-io/nats-core';
import { startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Node, startNode } from '../src/index.ts';
import { type MemoryNexlet, memoryNexlet } from './memory-nexlet.ts';

const NUID = /^[0-9A-Za-z]{22}$/;
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

let server: TestNatsServer;
let dir: TempDir;
let nc: NatsConnection;
let nexlet: MemoryNexlet;
let node: Node;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  dir = await tempDir();
  nc = await server.connect();
  nexlet = memoryNexlet();
  node = await startNode(await server.connect(), {
    name: 'n1',
    tags: { region: 'lab' },
    stateDir: dir.path,
    version: '0.1.0',
    nexlets: [nexlet.definition],
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

const ask = (subject: string, body: string) => nc.request(subject, body, { timeout: 2_000 });

async function json(subject: string, body: unknown): Promise<unknown> {
  const reply = await ask(subject, JSON.stringify(body));
  expect(reply.headers?.get('Nats-Service-Error') ?? '').toBe('');
  return reply.json();
}

/** No reply, and nobody says that there are no responders. The node has answered a later request when this is sure. */
async function expectSilence(subject: string, body: string): Promise<void> {
  const replies: Msg[] = [];
  const inbox = `_INBOX.silence.${Math.random().toString(36).slice(2)}`;
  const subscription = nc.subscribe(inbox, { callback: (_error, msg) => void replies.push(msg) });
  nc.publish(subject, body, { reply: inbox });
  await nc.flush();
  await ask('$NEX.SVC.system.control.PING', '{"filter":null}');
  subscription.unsubscribe();
  expect(replies.map((reply) => reply.string())).toEqual([]);
}

async function expectError(subject: string, body: string, wanted: { code: string; header: string; error: unknown }) {
  const reply = await ask(subject, body);
  expect(reply.headers?.get('Nats-Service-Error-Code')).toBe(wanted.code);
  expect(reply.headers?.get('Nats-Service-Error')).toBe(wanted.header);
  expect(reply.json()).toEqual({ error_id: expect.stringMatching(NUID) as unknown, error: wanted.error });
}

const workload = (more: object = {}) => ({
  description: '',
  name: 'web',
  namespace: 'default',
  run_request: '{"program":"web"}',
  tags: null,
  workload_lifecycle: 'service',
  workload_type: 'memory',
  ...more,
});

async function bid(namespace = 'default'): Promise<string> {
  const subject = `$NEX.SVC.${namespace}.control.AUCTION`;
  const offer = (await json(subject, { agent_type: 'memory', auction_id: 'a', tags: null })) as { bidder_id: string };
  return offer.bidder_id;
}

async function deploy(more: object = {}, namespace = 'default'): Promise<string> {
  const reply = await json(`$NEX.SVC.${namespace}.control.ADEPLOY.${await bid(namespace)}`, workload(more));
  return (reply as { id: string }).id;
}

const stop = (id: string, namespace = 'default') => json(`$NEX.SVC.${namespace}.control.UNDEPLOY.${id}`, { namespace });

describe('control subjects', () => {
  it('PING answers with every key', async () => {
    expect(await json('$NEX.SVC.system.control.PING', { filter: null })).toEqual({
      agent_count: 1,
      node_id: node.id,
      start_time: expect.stringMatching(RFC3339) as unknown,
      state: 'running',
      tags: expect.objectContaining({
        region: 'lab',
        'nex.node': 'n1',
        'nex.nexus': 'nexus',
        'nex.lameduck': 'false',
      }) as unknown,
      version: '0.1.0',
      xkey: expect.stringMatching(/^X[A-Z2-7]{55}$/) as unknown,
    });
    expect(node.id).toMatch(/^N[A-Z2-7]{55}$/);
  });

  it('PING is silent unless all tags fit, and refuses what is no request', async () => {
    await json('$NEX.SVC.system.control.PING', { filter: { region: 'lab', 'nex.node': 'n1' } });
    await expectSilence('$NEX.SVC.system.control.PING', '{"filter":{"region":"lab","zone":"a"}}');
    for (const body of ['', '{}']) {
      const error = expect.stringContaining('NodePingRequest') as unknown;
      await expectError('$NEX.SVC.system.control.PING', body, {
        code: '400',
        header: 'failed to unmarshal ping request',
        error,
      });
    }
  });

  it('PING on another namespace has no responders, PING.<node> and PTAGS answer', async () => {
    await expect(ask('$NEX.SVC.default.control.PING', '{"filter":null}')).rejects.toThrow(RequestError);
    expect(await json(`$NEX.SVC.system.control.PING.${node.id}`, {})).toMatchObject({ node_id: node.id });
    expect(await json('$NEX.SVC.system.control.PTAGS', {})).toMatchObject({ region: 'lab', 'nex.os': 'linux' });
  });

  it('INFO shows the nexlets', async () => {
    const info = await json(`$NEX.SVC.system.control.INFO.${node.id}`, {});
    expect(info).toEqual({
      node_id: node.id,
      tags: expect.objectContaining({ region: 'lab' }) as unknown,
      uptime: expect.stringMatching(/^[\d.]+(ms|s)$/) as unknown,
      version: '0.1.0',
      xkey: node.xkey,
      node_agent_summaries: [
        {
          agent_health: 'healthy',
          agent_health_stoplight: '🟢',
          agent_id: expect.stringMatching(NUID) as unknown,
          agent_last_heartbeat_time: expect.stringMatching(RFC3339) as unknown,
          agent_summary: {
            name: 'memory',
            start_time: expect.stringMatching(RFC3339) as unknown,
            state: 'running',
            supported_lifecycles: 'service,job',
            type: 'memory',
            version: '1.2.3',
            workload_count: 0,
          },
        },
      ],
    });
  });

  it('AGENTID takes and gives plain text', async () => {
    const id = (await ask(`$NEX.SVC.system.control.AGENTID.${node.id}`, 'memory')).string();
    expect(id).toMatch(NUID);
    await expectSilence(`$NEX.SVC.system.control.AGENTID.${node.id}`, 'nobody');
    const error = 'agent name is required';
    await expectError(`$NEX.SVC.system.control.AGENTID.${node.id}`, '', { code: '400', header: error, error });
  });

  it('LAMEDUCK refuses a bad delay and is silent when a tag does not fit', async () => {
    const subject = `$NEX.SVC.system.control.LAMEDUCK.${node.id}`;
    const unreadable = {
      code: '400',
      header: 'failed to unmarshal lameduck request',
      error: expect.any(String) as unknown,
    };
    await expectError(subject, '{}', unreadable);
    const header = 'failed to parse lameduck delay';
    await expectError(subject, '{"delay":"5"}', {
      code: '400',
      header,
      error: expect.stringContaining('"5"') as unknown,
    });
    await expectSilence(subject, '{"delay":"1m0s","tag":{"region":"moon"}}');
  });

  it('is a micro service', async () => {
    const info = (await ask('$SRV.INFO.nexnode', '')).json<{
      version: string;
      endpoints: { name: string; queue_group: string }[];
    }>();
    expect(info.version).toBe('0.1.0');
    expect(new Set(info.endpoints.map((endpoint) => endpoint.queue_group))).toEqual(new Set([node.id]));
    expect(info.endpoints.map((endpoint) => endpoint.name).sort()).toEqual([
      'AuctionDeployWorkload',
      'AuctionRequest',
      'CloneWorkload',
      'GetAgentIdByName',
      'GetNodeInfo',
      'NamespacePingRequest',
      'PingNexus',
      'PingNode',
      'PingPlacementTags',
      'RegisterAgent',
      'SetLameduck',
      'StopWorkload',
    ]);
    expect((await ask('$SRV.INFO.memory', '')).json()).toMatchObject({ version: '1.2.3' });
  });
});

describe('AUCTION', () => {
  it('bids with every key, the schema as text, and what the nexlet adds', async () => {
    const offer = await json('$NEX.SVC.default.control.AUCTION', {
      agent_type: 'memory',
      auction_id: 'a',
      tags: { 'nex.os': 'linux', region: 'lab' },
    });
    expect(offer).toEqual({
      bidder_id: expect.stringMatching(NUID) as unknown,
      start_request_schema: JSON.stringify(nexlet.definition.startRequestSchema),
      supported_lifecycles: ['service', 'job'],
      xkey: expect.stringMatching(/^X/) as unknown,
      node_id: node.id,
      node_name: 'n1',
      missing_bytes: 42,
      max_workloads: 0,
    });
    expect((offer as { xkey: string }).xkey).not.toBe(node.xkey);
  });

  it('is silent for another type or other tags, and refuses what is no request', async () => {
    await expectSilence('$NEX.SVC.default.control.AUCTION', '{"agent_type":"native","auction_id":"a","tags":{}}');
    await expectSilence(
      '$NEX.SVC.default.control.AUCTION',
      '{"agent_type":"memory","auction_id":"a","tags":{"region":"moon"}}',
    );
    const header = 'failed to unmarshal auction request';
    await expectError('$NEX.SVC.default.control.AUCTION', '{"agent_type":"memory"}', {
      code: '400',
      header,
      error: expect.any(String) as unknown,
    });
  });
});

describe('ADEPLOY', () => {
  it('starts a workload, once per bid', async () => {
    const id = await bid();
    const reply = (await json(`$NEX.SVC.default.control.ADEPLOY.${id}`, workload())) as { id: string };
    expect(reply).toEqual({ id: expect.stringMatching(NUID) as unknown, name: 'web' });
    const context = nexlet.workloads.get(reply.id);
    expect(context?.runRequest).toEqual({ program: 'web' });
    expect(context?.existing).toBe(false);
    expect(Object.keys(context?.credentials ?? {})).toHaveLength(11);
    await expectSilence(`$NEX.SVC.default.control.ADEPLOY.${id}`, JSON.stringify(workload()));
    await stop(reply.id);
  });

  it('is silent for a bid of somebody else, even when the request is no request', async () => {
    await expectSilence('$NEX.SVC.default.control.ADEPLOY.unknown', 'not json');
  });

  it('refuses by the rules of the page, and the bid stays good', async () => {
    const id = await bid();
    const subject = `$NEX.SVC.default.control.ADEPLOY.${id}`;
    const expected = (code: string, header: string, error: unknown) => ({ code, header, error });
    const text = expect.any(String) as unknown;
    await expectError(subject, '{}', expected('400', 'failed to unmarshal auction deploy workload request', text));
    await expectError(
      subject,
      JSON.stringify(workload({ namespace: 'other' })),
      expected('403', 'namespace mismatch: default != other', 'namespace mismatch'),
    );
    await expectError(
      subject,
      JSON.stringify(workload({ workload_type: 'native' })),
      expected('404', 'workload type not found', 'workload type not found'),
    );
    await expectError(
      subject,
      JSON.stringify(workload({ run_request: '{' })),
      expected('400', 'failed to unmarshal start request', 'run_request is not JSON'),
    );
    await expectError(
      subject,
      JSON.stringify(workload({ run_request: '{}' })),
      expected('400', 'failed to validate run request', 'field "program" is required'),
    );
    await expectError(
      subject,
      JSON.stringify(workload({ workload_lifecycle: 'function' })),
      expected('400', 'failed to validate run request', 'field "workload_lifecycle" must be one of ["service","job"]'),
    );
    await stop(((await json(subject, workload())) as { id: string }).id);
  });

  it('lets "system" act for any namespace, but none that would become a wildcard', async () => {
    const id = await deploy({ namespace: 'other' }, 'system');
    expect(nexlet.workloads.get(id)?.request.namespace).toBe('other');
    await stop(id, 'other');
    for (const namespace of ['*', '>', 'a.b', '']) {
      const subject = `$NEX.SVC.system.control.ADEPLOY.${await bid('system')}`;
      const reply = await ask(subject, JSON.stringify(workload({ namespace })));
      expect(reply.headers?.get('Nats-Service-Error-Code')).toBe('400');
    }
    expect(nexlet.workloads.size).toBe(0);
  });

  it("relays a nexlet's error as it is: code 100 and a message of its own", async () => {
    const subject = `$NEX.SVC.default.control.ADEPLOY.${await bid()}`;
    const reply = await ask(subject, JSON.stringify(workload({ run_request: '{"program":"x","fail":true}' })));
    expect(reply.headers?.get('Nats-Service-Error-Code')).toBe('100');
    expect(reply.headers?.get('Nats-Service-Error')).toBe('told to fail');
    expect(reply.json()).toMatchObject({ id: expect.stringMatching(NUID) as unknown, name: 'web' });
  });

  it('does not hold up other requests while a start takes its time', async () => {
    const gate = Promise.withResolvers<void>();
    nexlet.gate = gate.promise;
    const slow = deploy({ name: 'slow' });
    await waitFor('the start to be under way', () => nexlet.calls.includes('start slow'));
    nexlet.gate = undefined;
    const quick = await deploy({ name: 'quick' });
    expect(await json('$NEX.SVC.default.control.WPING', { filter: null, namespace: 'default' })).toHaveLength(1);
    await stop(quick);
    gate.resolve();
    await stop(await slow);
  });
});

describe('WPING', () => {
  it('lists a namespace, "system" lists all; by id or name', async () => {
    const wping = (namespace: string, filter: string[] | null = null) =>
      json(`$NEX.SVC.${namespace}.control.WPING`, { filter, namespace }) as Promise<{ id: string }[]>;
    expect(await wping('system')).toEqual([]);
    const one = await deploy({ name: 'one' });
    const two = await deploy({ name: 'two', namespace: 'other' }, 'other');
    expect(await wping('default')).toEqual([
      {
        id: one,
        name: 'one',
        namespace: 'default',
        runtime: '--',
        start_time: '2026-05-01T10:01:00Z',
        tags: {},
        metadata: {},
        workload_lifecycle: 'service',
        workload_state: 'running',
        workload_type: 'memory',
      },
    ]);
    expect((await wping('system')).map(({ id }) => id).sort()).toEqual([one, two].sort());
    expect(await wping('system', [one])).toHaveLength(1);
    expect(await wping('system', ['two'])).toHaveLength(1);
    expect(await wping('default', ['two'])).toEqual([]);
    await expectError('$NEX.SVC.default.control.WPING', '{"filter":null,"namespace":"other"}', {
      code: '403',
      header: 'namespace mismatch: default != other',
      error: 'namespace mismatch',
    });
    await expectError('$NEX.SVC.default.control.WPING', '', {
      code: '400',
      header: 'failed to unmarshal ping request',
      error: expect.any(String) as unknown,
    });
    await stop(one);
    await stop(two, 'other');
  });
});

describe('UNDEPLOY', () => {
  it('stops a workload; what is not here is "not found" and no error, in good time', async () => {
    const id = await deploy();
    expect(await stop(id)).toEqual({ id, message: '', stopped: true, workload_type: 'memory' });
    const started = Date.now();
    expect(await stop(id)).toEqual({ id, message: 'workload not found', stopped: false, workload_type: '' });
    expect(Date.now() - started).toBeLessThan(1_000);
  });

  it("does not touch another namespace's workload", async () => {
    const id = await deploy();
    expect(await stop(id, 'other')).toMatchObject({ stopped: false, message: 'workload not found' });
    expect(nexlet.workloads.has(id)).toBe(true);
    await expectError(`$NEX.SVC.other.control.UNDEPLOY.${id}`, '{"namespace":"default"}', {
      code: '403',
      header: 'namespace mismatch: other != default',
      error: 'namespace mismatch',
    });
    await stop(id);
  });

  it('answers only when the workload has stopped, and until then keeps clients waiting that give up after 2 s', async () => {
    const id = await deploy();
    const gate = Promise.withResolvers<void>();
    nexlet.gate = gate.promise;
    const replies: { at: number; body: unknown }[] = [];
    const subscription = nc.subscribe(`_INBOX.stop.${id}`, {
      callback: (_error, msg) => void replies.push({ at: Date.now(), body: msg.json() }),
    });
    const started = Date.now();
    nc.publish(`$NEX.SVC.default.control.UNDEPLOY.${id}`, '{"namespace":"default"}', { reply: `_INBOX.stop.${id}` });
    await waitFor('the second interim reply', () => replies.length === 2);
    gate.resolve();
    await waitFor('the answer', () => replies.length === 3);
    subscription.unsubscribe();
    nexlet.gate = undefined;
    const stopping = { id, message: 'workload is stopping', stopped: false, workload_type: '' };
    const stopped = { id, message: '', stopped: true, workload_type: 'memory' };
    expect(replies.map(({ body }) => body)).toEqual([stopping, stopping, stopped]);
    const pauses = replies.map(({ at }, index) => at - (replies[index - 1]?.at ?? started));
    expect(Math.max(...pauses)).toBeLessThan(2_000);
  });
});

describe('CLONE', () => {
  it('gives the start request to its namespace and to "system", silence to others', async () => {
    const id = await deploy();
    const clone = { namespace: 'default', new_target_xkey: 'XC' };
    expect(await json(`$NEX.SVC.default.control.CLONE.${id}`, clone)).toEqual({ ...workload(), tags: {} });
    expect(await json(`$NEX.SVC.system.control.CLONE.${id}`, clone)).toMatchObject({ namespace: 'default' });
    // Longer than the node waits for its nexlets.
    const options = { timeout: 1_400 };
    const foreign = nc.request(`$NEX.SVC.other.control.CLONE.${id}`, JSON.stringify(clone), options);
    const unknown = nc.request('$NEX.SVC.default.control.CLONE.unknown', JSON.stringify(clone), options);
    await Promise.all([foreign, unknown].map((asked) => expect(asked).rejects.toThrow(TimeoutError)));
    await stop(id);
  });
});

describe('REGISTER', () => {
  const registration = {
    description: '',
    max_workloads: 0,
    name: 'go_exec',
    public_xkey: 'XB',
    register_type: 'native',
    start_request_schema: '{"type":"object"}',
    version: '0.0.0',
  };

  it('hands a Go nexlet its connection data, with no null in it', async () => {
    const reply = await json(`$NEX.SVC.${node.id}.agent.REGISTER.goagent1`, registration);
    expect(reply).toEqual({
      connection_data: {
        conn_name: '',
        nats_servers: [expect.stringContaining(':') as unknown],
        nats_user_jwt: '',
        nats_user_name: '',
        nats_user_nkey: '',
        nats_user_password: '',
        nats_user_seed: '',
        tls_ca: '',
        tls_cert: '',
        tls_first: false,
        tls_key: '',
      },
      existing_state: {},
      message: '',
      node_id: node.id,
      success: true,
      asks_for_bids: true,
    });
  });

  it('hears the first heartbeat even when it follows the reply at once, and then bids', async () => {
    const summary = {
      name: 'go_exec',
      start_time: '2026-05-01T10:00:00Z',
      type: 'go',
      version: '0.0.0',
      workload_count: 0,
    };
    const beat = (state: string) =>
      nc.publish(
        `$NEX.SVC.${node.id}.agent.HEARTBEAT.goagent2`,
        JSON.stringify({ data: 'opaque', summary: { ...summary, state, supported_lifecycles: 'job' } }),
      );
    const auction = JSON.stringify({ agent_type: 'go', auction_id: 'a', tags: {} });
    await json(`$NEX.SVC.${node.id}.agent.REGISTER.goagent2`, {
      ...registration,
      register_type: 'go',
      max_workloads: 1,
    });
    await expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    beat('running');
    expect((await ask('$NEX.SVC.default.control.AUCTION', auction)).json()).toMatchObject({ supported_lifecycles: [] });
    beat('starting');
    await expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    summary.workload_count = 1;
    beat('running');
    await expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    summary.workload_count = 0;
    beat('running');
    await ask('$NEX.SVC.default.control.AUCTION', auction);
    beat('stopping');
  });

  it('refuses by the rules of the page', async () => {
    const subject = `$NEX.SVC.${node.id}.agent.REGISTER.goagent1`;
    const text = expect.any(String) as unknown;
    const refused = (body: object, code: string, header: string, error: unknown = text) =>
      expectError(subject, JSON.stringify(body), { code, header, error });
    await refused({}, '400', 'failed to unmarshal register local agent request');
    await refused({ ...registration, register_type: '' }, '400', 'register_type is required');
    await refused({ ...registration, start_request_schema: '{' }, '400', 'failed to unmarshal start request schema');
    await refused(
      { ...registration, start_request_schema: '[]' },
      '500',
      'failed to compile schema',
      'internal server error',
    );
    const other = { ...registration, public_xkey: 'XOTHER' };
    await refused(other, '500', 'failed to update registration', 'internal server error');
  });

  it('lets a nexlet register again', async () => {
    await json(`$NEX.SVC.${node.id}.agent.REGISTER.goagent1`, { ...registration, version: '0.0.1' });
  });
});
