// Our client against scripted nodes that answer as Go nodes do, for better or worse.
import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { NexClient, ProtocolError, stoppingReply } from '../src/index.ts';
import {
  AUCTION,
  bid,
  DEPLOY,
  errorReply,
  INTERNAL,
  notFound,
  ping,
  PING,
  Script,
  stopped,
  summary,
} from './scripted.ts';

let server: TestNatsServer;
let nc: NatsConnection;
let script: Script;
const serve: Script['serve'] = (subject, answer) => script.serve(subject, answer);
const reply: Script['reply'] = (payload, delay) => script.reply(payload, delay);

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  nc = await server.connect();
  script = new Script(await server.connect());
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

afterEach(() => script.clear());

const web = { type: 'native', name: 'web', lifecycle: 'service' as const, runRequest: { uri: 'file:///bin/web' } };

describe('pingNodes()', () => {
  it('is empty at once when there is no node', async () => {
    const started = Date.now();
    expect(await new NexClient(nc).pingNodes()).toEqual({ nodes: [], errors: [] });
    expect(Date.now() - started).toBeLessThan(500);
  });

  it('gathers good answers, bad ones and errors, each for itself', async () => {
    await serve(PING, reply(ping('NA')));
    await serve(PING, reply(ping('NB', { later: true })));
    await serve(PING, reply(ping('NB', { later: true })));
    await serve(PING, reply('{"node_id":"NC"}'));
    await serve(PING, reply('gibberish'));
    await serve(PING, errorReply('500', 'failed', INTERNAL));
    const { nodes, errors } = await new NexClient(nc).pingNodes();
    expect(nodes.map((each) => each.node_id).sort()).toEqual(['NA', 'NB']);
    expect(nodes[0]?.tags).toEqual({});
    expect(errors.map((error) => error.message).sort()).toEqual([
      `Cannot read NodePingResponse from "${PING}": field "agent_count" is required`,
      `Cannot read NodePingResponse from "${PING}": it is not JSON`,
      'failed',
    ]);
  });

  it('ends when all expected nodes have answered, else when nobody answers any more', async () => {
    await serve(PING, reply(ping('NA')));
    await serve(PING, reply(ping('NB'), 500));
    const nex = new NexClient(nc, { stall: 150 });
    expect((await nex.pingNodes()).nodes).toHaveLength(1);
    const started = Date.now();
    expect((await nex.pingNodes({ expected: 2 })).nodes).toHaveLength(2);
    expect((await nex.pingNodes({ expected: 1 })).nodes).toHaveLength(1);
    expect(Date.now() - started).toBeLessThan(1_000);
  });

  it('waits for a first answer no longer than it may, and ends when aborted', async () => {
    await serve(PING, () => undefined);
    expect((await new NexClient(nc, { timeout: 100 }).pingNodes()).nodes).toEqual([]);
    const abort = new AbortController();
    const asking = new NexClient(nc).pingNodes({ signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(asking).rejects.toThrow('enough');
    await expect(new NexClient(nc).pingNodes({ signal: abort.signal })).rejects.toThrow('enough');
  });

  it('says that the connection is closed', async () => {
    const closed = await server.connect();
    await closed.close();
    await expect(new NexClient(closed).pingNodes()).rejects.toMatchObject({ code: 'NEX_CONNECTION_CLOSED' });
  });
});

describe('nodeInfo() and lameduck()', () => {
  it('take what a Go node answers', async () => {
    const info = { node_id: 'NA', tags: null, uptime: '1h2m3.4s', version: '0.4.1', xkey: 'XA' };
    await serve('$NEX.SVC.system.control.INFO.NA', reply(JSON.stringify(info)));
    expect(await new NexClient(nc, { namespace: 'default' }).nodeInfo('NA')).toEqual({ ...info, tags: {} });
    const bodies: unknown[] = [];
    await serve('$NEX.SVC.system.control.LAMEDUCK.NA', (msg) => {
      bodies.push(msg.json());
      msg.respond('{"message":"bye","success":true}');
    });
    expect(await new NexClient(nc).lameduck('NA', { delay: 90_000 })).toEqual({ message: 'bye', success: true });
    expect(bodies).toEqual([{ delay: '1m30s' }]);
  });

  it('refuse an id that is none before anything is sent', async () => {
    await expect(new NexClient(nc).nodeInfo('a.b')).rejects.toMatchObject({ code: 'NEX_SUBJECT_INVALID' });
    expect(() => new NexClient(nc, { namespace: '*' })).toThrow(ProtocolError);
  });
});

describe('startWorkload()', () => {
  it('sends every required key, chooses a bid that fits, and keeps what a bid says beyond the protocol', async () => {
    const seen: { subject: string; body: unknown }[] = [];
    await serve(AUCTION, (msg) => {
      seen.push({ subject: msg.subject, body: msg.json() });
      msg.respond(bid('functions', { supported_lifecycles: ['function'] }));
      msg.respond(bid('nothing', { supported_lifecycles: null }));
      msg.respond(bid('picky', { start_request_schema: '{"required":["other"]}' }));
      msg.respond(bid('broken', { start_request_schema: '{' }));
      msg.respond(bid('fits', { node_id: 'NA', free: 1 }));
    });
    await serve(DEPLOY, (msg) => {
      seen.push({ subject: msg.subject, body: msg.json() });
      msg.respond('{"id":"w1","name":"web"}');
    });
    const nex = new NexClient(nc, { namespace: 'default' });
    expect(await nex.startWorkload(web)).toEqual({ id: 'w1', name: 'web', nodeId: 'NA' });
    expect(seen).toEqual([
      {
        subject: '$NEX.SVC.default.control.AUCTION',
        body: {
          agent_type: 'native',
          auction_id: expect.stringMatching(/^\w{22}$/) as unknown,
          tags: { 'nex.lameduck': 'false' },
          lifecycle: 'service',
          workload: { namespace: 'default', name: 'web' },
        },
      },
      {
        subject: '$NEX.SVC.default.control.ADEPLOY.fits',
        body: {
          description: '',
          name: 'web',
          namespace: 'default',
          run_request: '{"uri":"file:///bin/web"}',
          tags: {},
          workload_lifecycle: 'service',
          workload_type: 'native',
        },
      },
    ]);
    const { bids } = await nex.auction({ type: 'native', expected: 5 });
    expect(bids.find((each) => each.bidder_id === 'fits')?.['free']).toBe(1);
  });

  it("passes on what the nexlet's error says", async () => {
    await serve(AUCTION, reply(bid('b')));
    await serve('$NEX.SVC.*.control.ADEPLOY.b', errorReply('100', 'exec format error', '{"id":"","name":""}'));
    await expect(new NexClient(nc).startWorkload(web)).rejects.toMatchObject({
      code: 'NEX_PEER_FAILED',
      message: 'exec format error',
    });
  });

  it('says so when the node that bid keeps silent', async () => {
    await serve(AUCTION, reply(bid('b')));
    await serve(DEPLOY, () => undefined);
    await expect(new NexClient(nc).startWorkload({ ...web, timeout: 100 })).rejects.toMatchObject({
      code: 'NEX_NO_ANSWER',
    });
  });
});

describe('listWorkloads()', () => {
  const WPING = '$NEX.SVC.system.control.WPING';

  it('waits for a slow node that a ping has counted, and lets no single error spoil the rest', async () => {
    for (const id of ['NA', 'NB', 'NC', 'ND']) await serve(PING, reply(ping(id)));
    await serve(WPING, reply('null'));
    await serve(WPING, errorReply('500', 'failed to publish query workloads request', INTERNAL));
    await serve(WPING, reply(JSON.stringify([summary('w1'), summary('w2', { metadata: null, namespace: undefined })])));
    await serve(WPING, reply(JSON.stringify([summary('w3')]), 900));
    const { workloads, errors, nodes } = await new NexClient(nc).listWorkloads();
    expect(workloads.map((workload) => workload.id)).toEqual(['w1', 'w2', 'w3']);
    expect(workloads[1]).not.toHaveProperty('metadata');
    expect(errors).toMatchObject([{ code: 'NEX_PEER_FAILED', message: 'failed to publish query workloads request' }]);
    expect(nodes).toBe(4);
  });

  it('needs no ping where none is answered', async () => {
    await serve('$NEX.SVC.default.control.WPING', reply(JSON.stringify([summary('w1')])));
    expect((await new NexClient(nc, { namespace: 'default' }).listWorkloads()).workloads).toHaveLength(1);
  });
});

describe('stopWorkload()', () => {
  const list = async (...workloads: object[]) => {
    for (const id of ['NA', 'NB']) await serve(PING, reply(ping(id)));
    await serve('$NEX.SVC.*.control.WPING', reply('[]'));
    await serve('$NEX.SVC.*.control.WPING', reply(JSON.stringify(workloads)));
  };

  it('finds the namespace, and waits for the node that has it though others answer first', async () => {
    await list(summary('w1', { namespace: 'team' }));
    await serve('$NEX.SVC.team.control.UNDEPLOY.w1', reply(notFound('w1')));
    await serve('$NEX.SVC.team.control.UNDEPLOY.w1', reply(stopped('w1'), 700));
    expect(await new NexClient(nc).stopWorkload('w1')).toMatchObject({ stopped: true });
  });

  it('never says it did when it did not', async () => {
    await list(summary('w1'));
    await serve('$NEX.SVC.default.control.UNDEPLOY.w1', reply(notFound('w1')));
    await serve('$NEX.SVC.default.control.UNDEPLOY.w1', errorReply('500', 'broken', INTERNAL));
    await expect(new NexClient(nc).stopWorkload('w1')).rejects.toMatchObject({ code: 'NEX_PEER_FAILED' });
    await expect(new NexClient(nc).stopWorkload('w2')).rejects.toMatchObject({ code: 'NEX_WORKLOAD_NOT_FOUND' });
  });

  it('reads on past a node that says that the workload is stopping', async () => {
    await list(summary('w1'));
    await serve('$NEX.SVC.default.control.UNDEPLOY.w1', reply(notFound('w1')));
    await serve('$NEX.SVC.default.control.UNDEPLOY.w1', (msg) => {
      const stopping = stoppingReply('w1');
      msg.respond(stopping.data, { headers: stopping.headers });
      msg.respond(stopping.data, { headers: stopping.headers });
      reply(stopped('w1'), 500)(msg);
    });
    expect(await new NexClient(nc).stopWorkload('w1')).toMatchObject({ stopped: true });
  });

  it('looks in "system" for a workload whose node names no namespace, as nodes of Nex 0.4.1 do', async () => {
    await list(summary('w1', { namespace: undefined }));
    await serve('$NEX.SVC.system.control.UNDEPLOY.w1', reply(stopped('w1')));
    expect(await new NexClient(nc).stopWorkload('w1')).toMatchObject({ stopped: true });
  });

  it('asks for a namespace when an id is in several', async () => {
    await list(
      summary('w1'),
      summary('w1', { namespace: 'team' }),
      summary('w2', { namespace: undefined }),
      summary('w2'),
    );
    const nex = new NexClient(nc);
    await expect(nex.stopWorkload('w1')).rejects.toThrow('it runs in the namespaces default, team');
    await expect(nex.stopWorkload('w2')).rejects.toMatchObject({ code: 'NEX_WORKLOAD_AMBIGUOUS', kind: 'usage' });
  });
});
