// Where a workload goes, and what is said when it goes nowhere: against scripted nodes, silent ones of Go among them.
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createXKey, type EncryptedEnvironment, NexClient, openEnvironment } from '../src/index.ts';
import { AUCTION, bid, DEPLOY, errorReply, info, noBid, ping, PING, Script } from './scripted.ts';

let server: TestNatsServer;
let nex: NexClient;
let script: Script;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  nex = new NexClient(await server.connect());
  script = new Script(await server.connect());
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

afterEach(() => script.clear());

const web = { type: 'nix', name: 'web', lifecycle: 'service' as const, runRequest: { uri: 'x' } };
const STARTED = '{"id":"w1","name":"web"}';

/** A Go node: it answers pings and questions about its nexlets, and is silent in auctions that it does not bid in. */
async function goNode(id: string, pong: object, nexlets: Parameters<typeof info>[1][] = []): Promise<void> {
  await script.serve(PING, script.reply(ping(id, pong)));
  await script.serve(`$NEX.SVC.system.control.INFO.${id}`, script.reply(info(id, ...nexlets)));
  await script.serve(AUCTION, () => undefined);
}

async function failure(
  workload: Parameters<NexClient['startWorkload']>[0],
): Promise<{ message: string; code: string }> {
  const started = performance.now();
  const error: unknown = await nex.startWorkload(workload).catch((error: unknown) => error);
  expect(performance.now() - started).toBeLessThan(2_000);
  return error as { message: string; code: string };
}

describe('startWorkload() without a bid', () => {
  it('says what silent Go nodes lack', async () => {
    await goNode('NA', { tags: { 'nex.node': 'alpha', region: 'lab' } }, [{ type: 'native', health: 'healthy' }]);
    await goNode('NB', { tags: { 'nex.node': 'beta' } }, [{ type: 'nix', health: 'healthy' }]);
    await goNode('NC', { tags: { 'nex.node': 'gamma', region: 'lab' } }, [{ type: 'nix', health: 'degraded' }]);
    await goNode('ND', { tags: { 'nex.node': 'delta', region: 'lab' }, state: 'lameduck' });
    await goNode('NE', { tags: { region: 'lab' } });
    expect(await failure({ ...web, tags: { region: 'lab' } })).toMatchObject({
      code: 'NEX_NO_BIDS',
      message:
        'No node can run a workload of type "nix": 5 nodes seen: NE has no nexlet of type "nix"; ' +
        'alpha has no nexlet of type "nix"; beta lacks tag region=lab; delta is lameduck; ' +
        'gamma has a nexlet of type "nix" that is degraded',
    });
  });

  it('repeats what nodes of this project say, beside what it sees of others', async () => {
    await goNode('NA', { tags: { 'nex.node': 'alpha' } });
    for (const [id, name] of [['NB', 'beta'] as const, ['NC', 'gamma'] as const]) {
      await script.serve(PING, script.reply(ping(id)));
      await script.serve(AUCTION, noBid(id, name, 'is full: 10 of 10 workloads'));
    }
    expect((await failure(web)).message).toBe(
      'No node can run a workload of type "nix": 3 nodes seen: alpha has no nexlet of type "nix"; ' +
        'beta is full: 10 of 10 workloads; gamma is full: 10 of 10 workloads',
    );
  });

  it('says it without a survey, where the user may not ask for one', async () => {
    await script.serve(AUCTION, noBid('NB', 'beta', 'is lame duck'));
    await script.serve(AUCTION, noBid('NC', 'gamma', 'is lame duck'));
    expect((await failure(web)).message).toContain('2 nodes seen (beta, gamma), each is lame duck');
  });

  it('passes on errors that come instead of bids', async () => {
    await script.serve(AUCTION, errorReply('400', 'failed to auction', '{"error_id":"e","error":"no"}'));
    await script.serve(PING, script.reply(ping('NA')));
    expect((await failure(web)).message).toContain('a node answered with an error: no');
  });

  it('distinguishes nodes that it cannot see from no nodes at all', async () => {
    expect(await failure(web)).toMatchObject({ code: 'NEX_NO_NODES', kind: 'unreachable' });
    await script.serve(AUCTION, () => undefined);
    expect(await failure(web)).toMatchObject({ code: 'NEX_NO_BIDS' });
  });

  it('takes a bid that comes at the second asking', async () => {
    let auctions = 0;
    await script.serve(AUCTION, (msg) => {
      if (++auctions === 2) msg.respond(bid('late'));
    });
    await script.serve(DEPLOY, script.reply(STARTED));
    expect(await nex.startWorkload(web)).toEqual({ id: 'w1', name: 'web' });
  });

  it('ends when it is aborted, with the reason', async () => {
    await script.serve(AUCTION, () => undefined);
    const abort = new AbortController();
    const starting = nex.startWorkload({ ...web, signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(starting).rejects.toThrow('enough');
  });
});

describe('startWorkload()', () => {
  it('asks for what the workload needs and hands it over with its labels to the best bid', async () => {
    const seen: Record<string, unknown>[] = [];
    await script.serve(AUCTION, (msg) => {
      seen.push(msg.json());
      msg.respond(bid('busy', { load: 0.9, node_id: 'NA' }));
      msg.respond(bid('calm', { load: 0.1, node_id: 'NB', node_name: 'beta' }));
      msg.respond(bid('calm', { load: 0.1, node_id: 'NB', node_name: 'beta' }));
      msg.respond(bid('avoided', { load: 0, node_id: 'NC' }));
    });
    await script.serve(DEPLOY, (msg) => {
      seen.push({ subject: msg.subject, ...msg.json<object>() });
      msg.respond(STARTED);
    });
    const placed = await nex.startWorkload({
      ...web,
      namespace: 'team',
      needs: { memory: 5 },
      tags: { region: 'lab' },
      labels: { app: 'shop' },
      metadata: { by: 'me' },
      reference: 'r1',
      avoid: ['NC'],
    });
    expect(placed).toEqual({ id: 'w1', name: 'web', nodeId: 'NB', nodeName: 'beta' });
    expect(seen[0]).toMatchObject({
      tags: { region: 'lab', 'nex.lameduck': 'false' },
      lifecycle: 'service',
      needs: { memory: 5 },
      workload: { namespace: 'team', name: 'web' },
    });
    expect(seen[1]).toEqual({
      subject: '$NEX.SVC.team.control.ADEPLOY.calm',
      description: '',
      name: 'web',
      namespace: 'team',
      run_request: '{"uri":"x"}',
      tags: { app: 'shop', region: 'lab' },
      workload_lifecycle: 'service',
      workload_type: 'nix',
      metadata: { by: 'me' },
      reference: 'r1',
    });
  });

  it('seals the environment for the nexlet whose bid wins; nobody else on the wire can read it', async () => {
    const key = createXKey();
    const schema = '{"properties":{"encrypted_environment":{"type":"object"}}}';
    const wire: string[] = [];
    await script.serve('>', (msg) => void wire.push(msg.string()));
    await script.serve(AUCTION, (msg) => {
      msg.respond(bid('bad key', { load: 0, start_request_schema: schema, xkey: 'XNONE' }).replace(' ', '-'));
      msg.respond(bid('good', { load: 0.5, start_request_schema: schema, xkey: key.getPublicKey() }));
    });
    let request: { encrypted_environment?: EncryptedEnvironment } = {};
    await script.serve(DEPLOY, (msg) => {
      request = JSON.parse(msg.json<{ run_request: string }>().run_request) as typeof request;
      msg.respond(STARTED);
    });
    await nex.startWorkload({ ...web, environment: { TOKEN: 'hush hush' } });
    expect(
      openEnvironment(request.encrypted_environment ?? { base64_encrypted_env: '', encrypted_by: '' }, key),
    ).toEqual({ TOKEN: 'hush hush' });
    expect(wire.length).toBeGreaterThan(2);
    expect(wire.join('\n')).not.toContain('hush');
  });

  it('tries the next bid when a node has no room any more, which it says before it starts anything', async () => {
    const tried: string[] = [];
    await script.serve(AUCTION, (msg) => {
      for (const [index, id] of ['one', 'two', 'three', 'four'].entries()) msg.respond(bid(id, { load: index / 4 }));
    });
    await script.serve(DEPLOY, (msg) => {
      const id = msg.subject.split('.').at(-1) ?? '';
      tried.push(id);
      if (id === 'three') msg.respond(STARTED);
      else errorReply('404', 'workload type not found', '{"error_id":"e","error":"full"}')(msg);
    });
    expect(await nex.startWorkload(web)).toEqual({ id: 'w1', name: 'web' });
    expect(tried).toEqual(['one', 'two', 'three']);
  });

  it.each([
    [
      'an error that may come after the start',
      errorReply('500', 'failed', '{"error_id":"e","error":"x"}'),
      'NEX_PEER_FAILED',
    ],
    ["a nexlet's refusal", errorReply('100', 'no such file', '{"id":"","name":""}'), 'NEX_PEER_FAILED'],
    ['silence', () => undefined, 'NEX_NO_ANSWER'],
  ])('starts nothing a second time after %s', async (_, answer, code) => {
    let deployments = 0;
    await script.serve(AUCTION, (msg) => {
      for (const id of ['one', 'two']) msg.respond(bid(id));
    });
    await script.serve(DEPLOY, (msg) => {
      deployments++;
      answer(msg);
    });
    await expect(nex.startWorkload({ ...web, timeout: 150 })).rejects.toMatchObject({ code });
    expect(deployments).toBe(1);
  });
});
