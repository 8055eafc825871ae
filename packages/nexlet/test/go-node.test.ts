// A Go node with a signing key, as a nexlet meets it: a scripted node, a real server in operator mode, and credentials
// with just the rights that Nex 0.4 grants.
import { createAccount, createOperator, createUser, type KeyPair } from '@nats-io/nkeys';
import { natsConnectionData } from '@nex-nix/protocol';
import type { NatsConnection } from '@nats-io/nats-core';
import { jwtAuthenticator } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type NexletDefinition, runLocalNexlet, runNexlet } from '../src/index.ts';
import { creds, request, ScriptedNode } from './scripted-node.ts';
import { testDefinition } from './test-definition.ts';

const operator = createOperator();
const account = createAccount();
const YEAR = 365 * 24 * 3600;

function jwt(issuer: KeyPair, subject: KeyPair, nats: object, ttl = YEAR): string {
  const iat = Math.floor(Date.now() / 1_000);
  const [iss, sub] = [issuer.getPublicKey(), subject.getPublicKey()];
  const claims = { jti: 'JTI', iat, exp: iat + ttl, iss, sub, name: 'test', nats: { version: 2, ...nats } };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`;
  return `${signed}.${Buffer.from(issuer.sign(new TextEncoder().encode(signed))).toString('base64url')}`;
}

/** A user of the account, as the signing key minter of Nex 0.4 makes it. */
function user(pub: string[], sub: string[], ttl?: number): Record<string, unknown> {
  const pair = createUser();
  const limits = { subs: -1, data: -1, payload: -1, type: 'user' };
  const rights = { pub: { allow: pub }, sub: { allow: sub }, resp: { max: 1, ttl: 0 } };
  const seed = new TextDecoder().decode(pair.getSeed());
  return { nats_user_seed: seed, nats_user_jwt: jwt(account, pair, { ...rights, ...limits }, ttl) };
}

let server: TestNatsServer;
let nc: NatsConnection;
let node: ScriptedNode;
let count = 0;

beforeAll(async () => {
  const limits = { subs: -1, data: -1, payload: -1, conn: -1, leaf: -1, imports: -1, exports: -1, wildcards: true };
  const preload = jwt(operator, account, { limits, type: 'account' });
  server = await startNatsServer({
    jetstream: false,
    config: [
      `operator: ${jwt(operator, operator, { type: 'operator' })}`,
      'resolver: MEMORY',
      `resolver_preload: { ${account.getPublicKey()}: ${preload} }`,
    ].join('\n'),
  });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

beforeEach(async () => {
  const all = user(['>'], ['>']);
  const seed = new TextEncoder().encode(String(all['nats_user_seed']));
  nc = await server.connect({ authenticator: jwtAuthenticator(String(all['nats_user_jwt']), seed) });
  node = new ScriptedNode(nc, { id: `NODE${++count}`, servers: [server.url] });
  node.answer = () => node.success({ connection_data: creds([server.url], agentUser()) });
  await node.flush();
});

afterEach(async () => {
  await nc.close();
});

const registrationUser = () => user([`$NEX.SVC.${node.id}.agent.REGISTER.a1`], ['_INBOX.>']);

const agentUser = (ttl?: number) => {
  const of = (rest: string) => `$NEX.SVC.${node.id}.agent.${rest}`;
  const feed = (rest: string) => `$NEX.FEED.a1.${rest}`;
  return user(
    [of('HEARTBEAT.a1'), feed('events.*'), feed('logs.*.stdout'), feed('logs.*.stderr'), '_INBOX.>'],
    [
      of('a1.STARTWORKLOAD.*'),
      of('a1.PING'),
      ...['STOPWORKLOAD.*', 'GETWORKLOAD.*', 'QUERYWORKLOADS', 'PING', 'SETLAMEDUCK'].map(of),
      '$NEX.SVC.nexus.agent.PINGWORKLOAD.*',
      '$SRV.>',
      '_INBOX.>',
    ],
    ttl,
  );
};

const environment = () => {
  const { nats_user_seed: seed, nats_user_jwt: token } = registrationUser();
  return {
    NEX_AGENT_NATS_SERVERS: server.url,
    NEX_AGENT_NATS_USER_SEED: String(seed),
    NEX_AGENT_NATS_B64_JWT: Buffer.from(String(token)).toString('base64'),
    NEX_AGENT_NODE_ID: node.id,
    NEX_AGENT_ASSIGNED_ID: 'a1',
  };
};

const run = (definition: NexletDefinition) => runLocalNexlet(definition, { env: environment() });

describe('a nexlet of a Go node with a signing key', () => {
  it('serves, although it may neither hear its node nor events for it, nor publish logs of a namespace', async () => {
    const { definition, started } = testDefinition({ onEvent: async () => undefined });
    await using nexlet = await run(definition);
    node.heartbeat('somebody else');
    await waitFor('heartbeats', () => node.beats.length >= 3);
    expect((await node.start('a1', 'w1', request('web'))).json()).toEqual({ id: 'w1', name: 'web' });
    started.get('w1')?.feeds.log('default', 'w1', 'stdout', 'denied');
    await started.get('w1')?.feeds.flushed();
    expect(await node.list('default')).toEqual(['w1']);
    expect((await node.ask('STOPWORKLOAD.w1', { namespace: 'default' })).json()).toMatchObject({ stopped: true });
    expect(node.registrations).toHaveLength(1);
    expect(nexlet.nodeId).toBe(node.id);
  });

  it('is told that its id is taken, as a nexlet is that its node starts again after a crash', async () => {
    node.answer = () => ({ code: '500', error: 'failed to update registration' });
    await expect(run(testDefinition().definition)).rejects.toMatchObject({
      code: 'NEXLET_REGISTRATION_REFUSED',
      kind: 'refused',
      message: 'Cannot register nexlet "test_exec": failed to update registration',
    });
  });

  it('says so when its credentials do not let it serve', async () => {
    const { definition, calls } = testDefinition();
    node.answer = () => node.success({ connection_data: creds([server.url], registrationUser()) });
    await expect(run(definition)).rejects.toMatchObject({
      code: 'NEXLET_NATS_REFUSED',
      message: expect.stringContaining('Cannot serve nexlet "test_exec": ') as unknown,
    });
    expect(calls).toEqual(['ready', 'close']);
  });

  it('has its credentials renewed by what it registered with, outlives the old ones, and hands on those of workloads', async () => {
    const { definition, renewed } = testDefinition();
    const state = { w1: { request: request('web'), workload_creds: creds([server.url], { conn_name: 'fresh' }) } };
    node.answer = (registration) =>
      registration === 1
        ? node.success({ connection_data: creds([server.url], agentUser(3)) })
        : node.success({ connection_data: creds([server.url], agentUser()), existing_state: state });
    await using nexlet = await run(definition);
    await node.start('a1', 'w1', request('web'));
    await waitFor('the renewal', () => renewed.length === 1, { timeout: 5_000 });
    expect(renewed).toEqual([['w1', 'fresh']]);
    expect(node.registrations).toHaveLength(2);
    expect(node.registrations[1]?.body).toEqual(node.registrations[0]?.body);
    const beats = node.beats.length;
    // The server cuts the connection when the first credentials end, and takes it back with the others.
    await waitFor('the nexlet after the reconnect', () => node.beats.length >= beats + 4, { timeout: 8_000 });
    expect(await node.list('default')).toEqual(['w1']);
    expect(nexlet.agentId).toBe('a1');
  });
});

describe('a nexlet of any node', () => {
  it('serves events for it where it may hear them', async () => {
    const events: unknown[] = [];
    const all = user(['>'], ['>']);
    node.answer = () => node.success({ connection_data: creds([server.url], all) });
    const { definition } = testDefinition({ onEvent: async (event) => void events.push(event) });
    const registration = natsConnectionData({ nats_servers: [server.url], ...registrationUser() });
    await using nexlet = await runNexlet(definition, { registration, nodeId: node.id, nexus: 'nexus', agentId: 'a1' });
    nc.publish('$NEX.FEED.a1.events', '{"a":1}');
    nc.publish('$NEX.FEED.a1.events', 'text');
    await waitFor('both', () => events.length === 2);
    expect(events).toEqual([{ a: 1 }, 'text']);
    expect(nexlet.agentId).toBe('a1');
  });
});
