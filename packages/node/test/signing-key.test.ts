import { join } from 'node:path';
import { jwtAuthenticator } from '@nats-io/nats-core';
import { createUser } from '@nats-io/nkeys';
import { connectWith } from '@nex-nix/nexlet';
import { followLogs, inboxPrefix, type NatsConnectionData, NexClient } from '@nex-nix/protocol';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Minter, type Node, signingKeyMinter, startNode } from '../src/index.ts';
import { type MemoryNexlet, memoryNexlet } from './memory-nexlet.ts';
import { canPublish, canSubscribe, denied, OperatorBed, seedOf } from './operator-bed.ts';

const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };

let bed: OperatorBed;
let node: Node;
let nexlet: MemoryNexlet;
let minter: Minter;

beforeAll(async () => {
  bed = await OperatorBed.start();
  minter = signingKeyMinter(bed.minting);
  nexlet = memoryNexlet();
  const options = { name: 'n1', stateDir: bed.dir.path, version: '0.1.0', minter, nexlets: [nexlet.definition] };
  node = await startNode(await bed.connect(), options);
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await bed[Symbol.asyncDispose]();
});

describe('a node with a signing key', () => {
  it('runs workloads, and their logs and events reach the namespace', async () => {
    const nc = await bed.connect();
    await using logs = followLogs(nc, { namespace: 'default' });
    await nc.flush();
    const nex = new NexClient(nc, { namespace: 'default' });
    const { id } = await nex.startWorkload(echo);
    const { value } = (await logs[Symbol.asyncIterator]().next()) as { value: unknown };
    expect(value).toMatchObject({ workloadId: id });
    await nex.stopWorkload(id);
    const $srv = await nc.request('$SRV.PING.memory', '', { timeout: 2_000 });
    expect($srv.json()).toMatchObject({ name: 'memory' });
  });

  it('gives workloads credentials that work, and do not reach the control subjects', async () => {
    const owner = await bed.connect();
    const nex = new NexClient(owner, { namespace: 'default' });
    const { id } = await nex.startWorkload(echo);
    const credentials = nexlet.workloads.get(id)?.credentials as NatsConnectionData;
    expect(credentials).toMatchObject({ nats_servers: [bed.server.url], conn_name: id });
    await using nc = await connectWith(credentials);
    await using logs = followLogs(nc, { namespace: 'default', workloadId: id });
    await nc.flush();
    nexlet.feeds?.log('default', id, 'stderr', 'for its own eyes');
    const { value } = (await logs[Symbol.asyncIterator]().next()) as { value: { data: Uint8Array } };
    expect(new TextDecoder().decode(value.data)).toBe('for its own eyes');
    expect(await canPublish(nc, '_INBOX.somebody')).toBe(true);
    expect(await canPublish(nc, '$NEX.SVC.default.control.AUCTION')).toBe(false);
    expect(await canPublish(nc, `$NEX.SVC.${node.id}.agent.REGISTER.x`)).toBe(false);
    expect(await canPublish(nc, '$NEX.FEED.default.logs.x.stdout')).toBe(false);
    expect(await canSubscribe(nc, '$NEX.FEED.default.logs.*.stdout')).toBe(true);
    expect(await canSubscribe(nc, '$NEX.FEED.other.logs.*.stdout')).toBe(false);
    expect(await canSubscribe(nc, '$NEX.SVC.>')).toBe(false);
    await nex.stopWorkload(id);
  });

  it('gives nexlets what they need and no more', async () => {
    const scope = { nodeId: node.id, nexus: 'nexus', agentId: 'agent1' };
    const own = `$NEX.SVC.${node.id}.agent`;
    await using nc = await connectWith(await minter.agent(scope));
    const publish = [
      `${own}.HEARTBEAT.agent1`,
      `${own}.REGISTER.agent1`,
      '$NEX.FEED.default.logs.w.stdout',
      '$NEX.FEED.default.logs.w.stderr',
      '$NEX.FEED.default.metrics.w',
      '$NEX.FEED.default.events.WORKLOADSTARTED',
      '$NEX.FEED.agent1.events.INGRESS',
      '$JS.API.STREAM.INFO.NEX_FEED',
      '$JS.API.DIRECT.GET.NEX_FEED.$NEX.FEED.default.logs.w.stdout',
      '$JS.API.DIRECT.GET.NEX_FEED.$NEX.FEED.default.logs.w.stderr',
    ];
    const noPublish = [
      `${own}.HEARTBEAT.agent2`,
      `${own}.REGISTER.agent2`,
      `${own}.agent2.STARTWORKLOAD.w`,
      `${own}.STOPWORKLOAD.w`,
      `$NEX.SVC.system.control.HEARTBEAT.${node.id}`,
      '$NEX.SVC.default.control.AUCTION',
      '$NEX.FEED.default.other.w',
      '$JS.API.STREAM.LIST',
      '$JS.API.STREAM.MSG.GET.NEX_FEED',
      '$JS.API.DIRECT.GET.NEX_FEED',
      '$JS.API.DIRECT.GET.NEX_FEED.$NEX.FEED.default.events.WORKLOADSTARTED',
      'somewhere.else',
    ];
    expect(await denied(nc, 'publish', [...publish, ...noPublish])).toEqual(noPublish);
    const subscribe = [
      `${own}.agent1.STARTWORKLOAD.*`,
      `${own}.agent1.PING`,
      `${own}.agent1.BID`,
      `${own}.STOPWORKLOAD.*`,
      `${own}.GETWORKLOAD.*`,
      `${own}.QUERYWORKLOADS`,
      `${own}.PING`,
      `${own}.SETLAMEDUCK`,
      '$NEX.SVC.nexus.agent.PINGWORKLOAD.*',
      `$NEX.SVC.system.control.HEARTBEAT.${node.id}`,
      '$NEX.FEED.agent1.events',
      '$SRV.PING',
      '_INBOX.>',
    ];
    const noSubscribe = [
      `${own}.agent2.STARTWORKLOAD.*`,
      `${own}.REGISTER.*`,
      '$NEX.SVC.system.control.HEARTBEAT.*',
      '$NEX.SVC.*.control.ADEPLOY.*',
      '$NEX.FEED.default.logs.>',
      '>',
    ];
    expect(await denied(nc, 'subscribe', [...subscribe, ...noSubscribe])).toEqual(noSubscribe);
    await using registrant = await connectWith(await minter.registration(scope));
    const registering = [`${own}.REGISTER.agent1`, `${own}.REGISTER.agent2`, `${own}.HEARTBEAT.agent1`];
    expect(await denied(registrant, 'publish', registering)).toEqual(registering.slice(1));
    expect(await denied(registrant, 'subscribe', ['_INBOX.>', `${own}.>`])).toEqual([`${own}.>`]);
  });

  it('grants workloads the subjects that an option names, filled in for each', async () => {
    const granting = signingKeyMinter({
      ...bed.minting,
      grants: {
        publish: ['out.{namespace}.{name}.>', 'fixed'],
        subscribe: ['svc.{name}.*', 'id.{id}', '$SRV.>'],
        privateInboxes: true,
      },
    });
    await using nc = await connectWith(await granting.workload({ namespace: 'lab', workloadId: 'w1', name: 'echo' }));
    const publish = ['out.lab.echo.x', 'fixed', 'out.lab.other.x', 'out.other.echo.x', 'fixed.x'];
    expect(await denied(nc, 'publish', publish)).toEqual(publish.slice(2));
    const subscribe = ['svc.echo.hello', 'id.w1', '$SRV.PING', '_INBOX_w1.>', '_INBOX_w2.>', '_INBOX.>', 'svc.x.y'];
    expect(await denied(nc, 'subscribe', subscribe)).toEqual(subscribe.slice(4));
    for (const name of ['*', '>', 'a.b', 'a b', '', undefined]) {
      const minting = granting.workload({
        namespace: 'lab',
        workloadId: 'w1',
        ...(name === undefined ? {} : { name }),
      });
      await expect(minting).rejects.toMatchObject({ code: 'NODE_WORKLOAD_NAME_INVALID' });
    }
  });

  it('lets a workload with private inboxes ask and be answered', async () => {
    const grants = { publish: ['svc.>'], privateInboxes: true };
    const data = await signingKeyMinter({ ...bed.minting, grants }).workload({ namespace: 'lab', workloadId: 'w2' });
    const authenticator = jwtAuthenticator(data.nats_user_jwt, new TextEncoder().encode(data.nats_user_seed));
    await using nc = await bed.server.connect({ authenticator, inboxPrefix: inboxPrefix('w2') });
    await using owner = await bed.connect();
    owner.subscribe('svc.hello', { callback: (_error, msg) => void msg.respond('hi') });
    await owner.flush();
    expect((await nc.request('svc.hello')).string()).toBe('hi');
  });

  it('refuses grants that are no subjects', () => {
    for (const subject of ['a b', 'a..b', '>.a', 'a.{nobody}', 'a.*b', '']) {
      const make = () => signingKeyMinter({ ...bed.minting, grants: { publish: [subject] } });
      expect(make).toThrow(expect.objectContaining({ code: 'NODE_OPTION_INVALID' }));
    }
  });

  it('mints with the own key of the account too', async () => {
    const own = signingKeyMinter({ ...bed.minting, seed: seedOf(bed.account) });
    await using nc = await connectWith(await own.workload({ namespace: 'default', workloadId: 'w' }));
    expect(await canPublish(nc, '_INBOX.x')).toBe(true);
  });

  it('has its nexlets renew their credentials, and outlive the old ones', async () => {
    let minted = 0;
    const short = signingKeyMinter({ ...bed.minting, ttl: { agent: 2_000 } });
    const counting: Minter = { ...short, agent: (scope) => (minted++, short.agent(scope)) };
    const renewing = memoryNexlet({ type: 'renewing' });
    const options = { name: 'n2', stateDir: join(bed.dir.path, 'n2'), version: '0.1.0', minter: counting };
    await using running = new AsyncDisposableStack();
    running.use(await startNode(await bed.connect(), { ...options, nexlets: [renewing.definition] }));
    const started = Date.now();
    await waitFor('a renewal', () => minted >= 2);
    await waitFor('the first credentials to be over', () => Date.now() > started + 3_100, { interval: 50 });
    const nex = new NexClient(await bed.connect());
    // One that comes just when the nexlet changes its credentials, every second or so, finds nobody there.
    const start = () => nex.startWorkload({ ...echo, type: 'renewing' }).catch(() => undefined);
    const { id } = await waitFor('a start', start);
    const stop = () => nex.stopWorkload(id).catch(() => undefined);
    expect(await waitFor('a stop', stop)).toMatchObject({ stopped: true });
  });
});

describe('what cannot work', () => {
  it('a node that mints nothing, on a server that wants credentials', async () => {
    const started = Date.now();
    const options = { name: 'bare', stateDir: join(bed.dir.path, 'bare'), version: '0.1.0', servers: [bed.server.url] };
    const failing = startNode(await bed.connect(), { ...options, nexlets: [memoryNexlet().definition] });
    await expect(failing).rejects.toMatchObject({
      code: 'NODE_CREDENTIALS_REFUSED',
      kind: 'refused',
      message: 'Cannot start nexlet "memory": the NATS server refuses the credentials that this node makes for it',
      hint: expect.stringContaining('signing key') as unknown,
    });
    expect(Date.now() - started).toBeLessThan(10_000);
    expect((await new NexClient(await bed.connect()).pingNodes()).nodes.map((each) => each.node_id)).toEqual([node.id]);
  });

  it('a node whose own user may not serve', async () => {
    const nc = await bed.connect({ sub: { allow: ['_INBOX.>'] } });
    const failing = startNode(nc, { name: 'nobody', stateDir: join(bed.dir.path, 'nobody'), version: '0.1.0', minter });
    await expect(failing).rejects.toMatchObject({ code: 'NODE_PERMISSION', kind: 'refused' });
  });

  it.each([
    [() => [seedOf(createUser()), bed.account.getPublicKey()]],
    [() => ['SAXX', bed.account.getPublicKey()]],
    [() => ['', bed.account.getPublicKey()]],
    [() => [seedOf(bed.signingKey), createUser().getPublicKey()]],
    [() => [seedOf(bed.signingKey), 'AXX']],
  ])('a signing key minter with the wrong keys (%#)', (keys) => {
    const [seed = '', rootAccount = ''] = keys();
    const make = () => signingKeyMinter({ servers: [], seed, rootAccount });
    expect(make).toThrow(expect.objectContaining({ code: 'NODE_MINTER_INVALID' }));
  });
});
