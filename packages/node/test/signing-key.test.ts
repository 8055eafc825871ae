import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { encodeAccount, encodeOperator, encodeUser } from '@nats-io/jwt';
import { jwtAuthenticator, type NatsConnection, PermissionViolationError } from '@nats-io/nats-core';
import { createAccount, createOperator, createUser, type KeyPair } from '@nats-io/nkeys';
import { connectWith } from '@nex-nix/nexlet';
import { followLogs, type NatsConnectionData, NexClient } from '@nex-nix/protocol';
import { startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Minter, type Node, signingKeyMinter, startNode } from '../src/index.ts';
import { type MemoryNexlet, memoryNexlet } from './memory-nexlet.ts';

const seedOf = (pair: KeyPair) => new TextDecoder().decode(pair.getSeed());
const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };
const unlimited = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

const account = createAccount();
const signingKey = createAccount();

let server: TestNatsServer;
let dir: TempDir;
let node: Node;
let nexlet: MemoryNexlet;
let minter: Minter;

beforeAll(async () => {
  dir = await tempDir();
  server = await startNatsServer({ jetstream: false, config: await operatorConfig() });
  minter = signingKeyMinter({ servers: [server.url], seed: seedOf(signingKey), rootAccount: account.getPublicKey() });
  nexlet = memoryNexlet();
  const options = { name: 'n1', stateDir: dir.path, version: '0.1.0', minter, nexlets: [nexlet.definition] };
  node = await startNode(await connectAsOwner(), options);
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

async function operatorConfig(): Promise<string> {
  const operator = createOperator();
  const system = createAccount();
  const operatorJwt = await encodeOperator('OP', operator, { system_account: system.getPublicKey() });
  const systemJwt = await encodeAccount('SYS', system, { limits: unlimited }, { signer: operator });
  const grants = { limits: unlimited, signing_keys: [signingKey.getPublicKey()] };
  const accountJwt = await encodeAccount('A', account, grants, { signer: operator });
  return [
    `operator: ${operatorJwt}`,
    `system_account: ${system.getPublicKey()}`,
    'resolver: MEMORY',
    'resolver_preload: {',
    `  ${system.getPublicKey()}: ${systemJwt}`,
    `  ${account.getPublicKey()}: ${accountJwt}`,
    '}',
  ].join('\n');
}

async function connectAsOwner(): Promise<NatsConnection> {
  const user = createUser();
  const jwt = await encodeUser('owner', user, account, {}, { signer: signingKey });
  return server.connect({ authenticator: jwtAuthenticator(jwt, user.getSeed()) });
}

/** Whether the server lets a user publish or subscribe: what it denies, it says before it answers a ping. */
async function allowed(nc: NatsConnection, action: () => void): Promise<boolean> {
  const statuses = nc.status()[Symbol.asyncIterator]();
  action();
  await nc.flush();
  const status = await Promise.race([statuses.next(), turn(undefined)]);
  if (status?.value?.type !== 'error') return true;
  expect(status.value.error).toBeInstanceOf(PermissionViolationError);
  return false;
}

const canPublish = (nc: NatsConnection, subject: string) => allowed(nc, () => nc.publish(subject, '{}'));
const canSubscribe = (nc: NatsConnection, subject: string) =>
  allowed(nc, () => void nc.subscribe(subject, { callback: () => undefined }));

describe('a node with a signing key', () => {
  it('runs workloads, and their logs and events reach the namespace', async () => {
    const nc = await connectAsOwner();
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
    const owner = await connectAsOwner();
    const nex = new NexClient(owner, { namespace: 'default' });
    const { id } = await nex.startWorkload(echo);
    const credentials = nexlet.workloads.get(id)?.credentials as NatsConnectionData;
    expect(credentials).toMatchObject({ nats_servers: [server.url], conn_name: id });
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
    await using nc = await connectWith(await minter.agent(scope));
    for (const subject of [
      `$NEX.SVC.${node.id}.agent.HEARTBEAT.agent1`,
      `$NEX.SVC.${node.id}.agent.REGISTER.agent1`,
      '$NEX.FEED.default.logs.w.stdout',
      '$NEX.FEED.default.metrics.w',
      '$NEX.FEED.default.events.WORKLOADSTARTED',
      '$NEX.FEED.agent1.events.INGRESS',
    ]) {
      expect([subject, await canPublish(nc, subject)]).toEqual([subject, true]);
    }
    for (const subject of [
      `$NEX.SVC.${node.id}.agent.HEARTBEAT.agent2`,
      `$NEX.SVC.${node.id}.agent.agent2.STARTWORKLOAD.w`,
      '$NEX.SVC.default.control.AUCTION',
      'somewhere.else',
    ]) {
      expect([subject, await canPublish(nc, subject)]).toEqual([subject, false]);
    }
    expect(await canSubscribe(nc, `$NEX.SVC.${node.id}.agent.agent1.STARTWORKLOAD.*`)).toBe(true);
    expect(await canSubscribe(nc, `$NEX.SVC.${node.id}.agent.agent2.STARTWORKLOAD.*`)).toBe(false);
    await using registrant = await connectWith(await minter.registration(scope));
    expect(await canPublish(registrant, `$NEX.SVC.${node.id}.agent.REGISTER.agent1`)).toBe(true);
    expect(await canPublish(registrant, `$NEX.SVC.${node.id}.agent.REGISTER.agent2`)).toBe(false);
  });

  it('mints with the own key of the account too', async () => {
    const own = signingKeyMinter({ servers: [server.url], seed: seedOf(account), rootAccount: account.getPublicKey() });
    await using nc = await connectWith(await own.workload({ namespace: 'default', workloadId: 'w' }));
    expect(await canPublish(nc, '_INBOX.x')).toBe(true);
  });

  it('has its nexlets renew their credentials, and outlive the old ones', async () => {
    let minted = 0;
    const short = signingKeyMinter({
      servers: [server.url],
      seed: seedOf(signingKey),
      rootAccount: account.getPublicKey(),
      ttl: { agent: 2_000 },
    });
    const counting: Minter = { ...short, agent: (scope) => (minted++, short.agent(scope)) };
    const renewing = memoryNexlet({ type: 'renewing' });
    const options = { name: 'n2', stateDir: join(dir.path, 'n2'), version: '0.1.0', minter: counting };
    await using running = new AsyncDisposableStack();
    running.use(await startNode(await connectAsOwner(), { ...options, nexlets: [renewing.definition] }));
    const started = Date.now();
    await waitFor('a renewal', () => minted >= 2);
    await waitFor('the first credentials to be over', () => Date.now() > started + 3_100, { interval: 50 });
    const nex = new NexClient(await connectAsOwner());
    const { id } = await nex.startWorkload({ ...echo, type: 'renewing' });
    expect(await nex.stopWorkload(id)).toMatchObject({ stopped: true });
  });
});

describe('what cannot work', () => {
  it('a node that mints nothing, on a server that wants credentials', async () => {
    const started = Date.now();
    const options = { name: 'bare', stateDir: join(dir.path, 'bare'), version: '0.1.0', servers: [server.url] };
    const failing = startNode(await connectAsOwner(), { ...options, nexlets: [memoryNexlet().definition] });
    await expect(failing).rejects.toMatchObject({
      code: 'NODE_CREDENTIALS_REFUSED',
      kind: 'refused',
      message: 'Cannot start nexlet "memory": the NATS server refuses the credentials that this node makes for it',
      hint: expect.stringContaining('signing key') as unknown,
    });
    expect(Date.now() - started).toBeLessThan(10_000);
    expect((await new NexClient(await connectAsOwner()).pingNodes()).nodes.map((each) => each.node_id)).toEqual([
      node.id,
    ]);
  });

  it('a node whose own user may not serve', async () => {
    const user = createUser();
    const jwt = await encodeUser('nobody', user, account, { sub: { allow: ['_INBOX.>'] } }, { signer: signingKey });
    const nc = await server.connect({ authenticator: jwtAuthenticator(jwt, user.getSeed()) });
    const failing = startNode(nc, { name: 'nobody', stateDir: join(dir.path, 'nobody'), version: '0.1.0', minter });
    await expect(failing).rejects.toMatchObject({ code: 'NODE_PERMISSION', kind: 'refused' });
  });

  it.each([
    [seedOf(createUser()), account.getPublicKey()],
    ['SAXX', account.getPublicKey()],
    ['', account.getPublicKey()],
    [seedOf(signingKey), createUser().getPublicKey()],
    [seedOf(signingKey), 'AXX'],
  ])('a signing key minter with the wrong keys (%#)', (seed, rootAccount) => {
    const make = () => signingKeyMinter({ servers: [], seed, rootAccount });
    expect(make).toThrow(expect.objectContaining({ code: 'NODE_MINTER_INVALID' }));
  });
});
