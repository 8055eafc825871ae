// Workloads with a sealed environment: read and cloned through a scripted node whose nexlet seals again for who asks.
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createXKey, type EncryptedEnvironment, NexClient, openEnvironment, sealEnvironment } from '../src/index.ts';
import { AUCTION, bid, DEPLOY, notFound, ping, PING, Script, summary } from './scripted.ts';

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

const nexlet = createXKey();
const environment = { TOKEN: 'hush hush' };
const sealedFor = (recipient: string) => sealEnvironment(environment, { sender: nexlet, recipient });

const start = (runRequest: object) => ({
  description: 'd',
  name: 'web',
  namespace: 'team',
  run_request: JSON.stringify(runRequest),
  tags: { region: 'lab', 'nex-deployment': 'web' },
  workload_lifecycle: 'service',
  workload_type: 'nix',
  metadata: { by: 'me' },
  reference: 'r1',
});

/** A node that has `w1`; its nexlet hands out what `runRequest` makes for a key. */
async function nodeWith(runRequest: (xkey: string) => object): Promise<void> {
  await script.serve(PING, script.reply(ping('NA')));
  await script.serve('$NEX.SVC.*.control.WPING', script.reply(JSON.stringify([summary('w1', { namespace: 'team' })])));
  await script.serve('$NEX.SVC.*.control.CLONE.w1', (msg) => {
    const { new_target_xkey: xkey } = msg.json<{ new_target_xkey: string }>();
    msg.respond(JSON.stringify(start(runRequest(xkey))));
  });
}

/** A node that bids and tells what it is given. */
async function bidder(): Promise<{ deployed: () => Record<string, unknown> | undefined; auctioned: () => unknown }> {
  let deployed: Record<string, unknown> | undefined;
  let auctioned: unknown;
  const schema = '{"properties":{"encrypted_environment":{"type":"object"}}}';
  await script.serve(AUCTION, (msg) => {
    auctioned = msg.json();
    msg.respond(bid('b', { start_request_schema: schema, xkey: nexlet.getPublicKey() }));
  });
  await script.serve(DEPLOY, (msg) => {
    deployed = msg.json();
    msg.respond('{"id":"w2","name":"web"}');
  });
  return { deployed: () => deployed, auctioned: () => auctioned };
}

describe('getWorkload()', () => {
  it('opens an environment that is sealed for the key that it asked with', async () => {
    await nodeWith((xkey) => ({ store_path: 'x', encrypted_environment: sealedFor(xkey) }));
    const found = await nex.getWorkload('w1');
    expect(found?.environment).toEqual(environment);
    expect(JSON.stringify(found?.request)).not.toContain('hush');
  });

  it('gives a workload without its environment when that is sealed for somebody else', async () => {
    await nodeWith(() => ({ store_path: 'x', encrypted_environment: sealedFor(nexlet.getPublicKey()) }));
    const found = await nex.getWorkload('w1');
    expect(found?.request.name).toBe('web');
    expect(found).not.toHaveProperty('environment');
  });
});

describe('cloneWorkload()', () => {
  it('seals the environment again for the nexlet that gets the clone, and nothing of it is in clear', async () => {
    await nodeWith((xkey) => ({ store_path: 'x', encrypted_environment: sealedFor(xkey) }));
    const { deployed, auctioned } = await bidder();
    const wire: string[] = [];
    await script.serve('>', (msg) => void wire.push(msg.string()));
    expect(await nex.cloneWorkload('w1', { tags: { region: 'home' }, needs: { memory: 1 } })).toEqual({
      id: 'w2',
      name: 'web',
    });
    expect(auctioned()).toMatchObject({
      tags: { region: 'home', 'nex.lameduck': 'false' },
      needs: { memory: 1 },
      lifecycle: 'service',
    });
    const { run_request: runRequest, ...rest } = deployed() ?? {};
    expect(rest).toEqual({
      description: 'd',
      name: 'web',
      namespace: 'team',
      tags: { region: 'home' },
      workload_lifecycle: 'service',
      workload_type: 'nix',
      metadata: { by: 'me' },
      reference: 'r1',
    });
    const { encrypted_environment: sealed, ...request } = JSON.parse(runRequest as string) as {
      encrypted_environment: EncryptedEnvironment;
    };
    expect(request).toEqual({ store_path: 'x' });
    expect(openEnvironment(sealed, nexlet)).toEqual(environment);
    expect(wire.join('\n')).not.toContain('hush');
  });

  it.each([
    ['sealed for somebody else', sealedFor(nexlet.getPublicKey())],
    ['in a form that it does not know', { sealed: 'otherwise' }],
  ])('refuses to make a clone that would lack its environment, which is %s', async (_, sealed) => {
    await nodeWith(() => ({ store_path: 'x', encrypted_environment: sealed }));
    const { deployed } = await bidder();
    await expect(nex.cloneWorkload('w1')).rejects.toMatchObject({ code: 'NEX_SEAL_INVALID', kind: 'refused' });
    expect(deployed()).toBeUndefined();
  });

  it('says so when the clone runs but its original could not be stopped', async () => {
    await nodeWith(() => ({ store_path: 'x' }));
    await bidder();
    await script.serve('$NEX.SVC.team.control.UNDEPLOY.w1', script.reply(notFound('w1')));
    await expect(nex.cloneWorkload('w1', { stop: true })).rejects.toMatchObject({
      code: 'NEX_WORKLOAD_NOT_FOUND',
      message: expect.stringContaining('Workload "w1" was cloned as "w2", but it still runs') as unknown,
    });
  });
});
