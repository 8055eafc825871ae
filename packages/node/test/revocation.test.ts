import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Account, Algorithms, type ClaimsData, decode, encode } from '@nats-io/jwt';
import { jwtAuthenticator, type NatsConnection } from '@nats-io/nats-core';
import { createAccount, createOperator, createUser } from '@nats-io/nkeys';
import { silentLogger } from '@nex-nix/nexlet';
import { type NatsConnectionData, NexClient } from '@nex-nix/protocol';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { accountRevoker, type Node, RevocationLedger, signingKeyMinter, startNode } from '../src/index.ts';
import { type MemoryNexlet, memoryNexlet } from './memory-nexlet.ts';
import { OperatorBed, seedOf } from './operator-bed.ts';

const DAY = 24 * 3_600_000;
const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };

let bed: OperatorBed;
let system: NatsConnection;

beforeAll(async () => {
  bed = await OperatorBed.start();
  system = await bed.connectSystem();
});

afterAll(() => bed[Symbol.asyncDispose]());

const revokerConnections: NatsConnection[] = [];

const revoker = async (ledger?: RevocationLedger, key = bed.operator) => {
  const nc = await bed.connectSystem();
  revokerConnections.push(nc);
  return accountRevoker(nc, {
    operatorSeed: seedOf(key),
    account: bed.account.getPublicKey(),
    logger: silentLogger,
    ledger,
  });
};

/** A revoker looks again a moment later, and would write the account while the next test does. */
async function closeRevokers(): Promise<void> {
  await Promise.all(revokerConnections.splice(0).map((nc) => nc.close()));
}

async function claims(): Promise<ClaimsData<Account>> {
  const subject = `$SYS.REQ.ACCOUNT.${bed.account.getPublicKey()}.CLAIMS.LOOKUP`;
  return decode<Account>((await system.request(subject, '')).string());
}

const revoked = async () => Object.keys((await claims()).nats.revocations ?? {});

/** As a program with these credentials connects, which comes back after it is cut off. */
const connectAs = ({ nats_user_jwt: jwt, nats_user_seed: seed }: NatsConnectionData) =>
  bed.server.connect({
    authenticator: jwtAuthenticator(jwt, new TextEncoder().encode(seed)),
    maxReconnectAttempts: 3,
    reconnectTimeWait: 50,
  });

describe('a node that can take credentials back', () => {
  let node: Node;
  let nexlet: MemoryNexlet;

  beforeAll(async () => {
    nexlet = memoryNexlet();
    const minter = signingKeyMinter({ ...bed.minting, revoker: await revoker() });
    const options = { name: 'n1', stateDir: bed.dir.path, version: '0.1.0', minter, nexlets: [nexlet.definition] };
    node = await startNode(await bed.connect(), options);
  });

  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await closeRevokers();
  });

  it('cuts off a workload when it stops, for good; the others stay', async () => {
    const nex = new NexClient(await bed.connect());
    const [one, two] = [await nex.startWorkload(echo), await nex.startWorkload(echo)];
    const credentials = [one, two].map(({ id }) => nexlet.workloads.get(id)?.credentials as NatsConnectionData);
    const [cut, kept] = await Promise.all(credentials.map(connectAs));
    await nex.stopWorkload(one.id);
    // The client gives up when the server has refused it as often as it may.
    expect(await cut?.closed()).toBeInstanceOf(Error);
    await expect(connectAs(credentials[0] as NatsConnectionData)).rejects.toThrow(/authoriz/i);
    await kept?.flush();
    expect(kept?.isClosed()).toBe(false);
    const { nats, name, sub } = await claims();
    expect({ name, sub, keys: nats.signing_keys }).toEqual({
      name: 'A',
      sub: bed.account.getPublicKey(),
      keys: [bed.signingKey.getPublicKey()],
    });
    await nex.stopWorkload(two.id);
    await waitFor('the other one to be cut off', () => kept?.isClosed());
  });

  it('takes back what its nexlets hold when it ends', async () => {
    const minter = signingKeyMinter({ ...bed.minting, revoker: await revoker() });
    let held: NatsConnectionData | undefined;
    const watched = {
      ...minter,
      agent: async (scope: Parameters<typeof minter.agent>[0]) => (held = await minter.agent(scope)),
    };
    const options = { name: 'n2', stateDir: join(bed.dir.path, 'n2'), version: '0.1.0', minter: watched };
    const other = await startNode(await bed.connect(), {
      ...options,
      nexlets: [memoryNexlet({ type: 'x' }).definition],
    });
    const credentials = held as unknown as NatsConnectionData;
    await (await connectAs(credentials)).close();
    await other[Symbol.asyncDispose]();
    await expect(connectAs(credentials)).rejects.toThrow(/authoriz/i);
  });
});

describe('accountRevoker()', () => {
  afterEach(closeRevokers);

  it('keeps what several of them write at the same time, and what others have written', async () => {
    const users = Array.from({ length: 12 }, () => createUser().getPublicKey());
    const [first = '', ...rest] = users;
    await (await revoker()).revoke(first);
    const several = await Promise.all([revoker(), revoker(), revoker()]);
    await Promise.all(rest.map(async (user, index) => several[index % several.length]?.revoke(user)));
    await waitFor('all to be in, once each has looked again', async () => {
      const entries = await revoked();
      return users.every((user) => entries.includes(user));
    });
  });

  it('signs with a signing key of the operator too', async () => {
    const user = createUser().getPublicKey();
    await (await revoker(undefined, bed.operatorSigningKey)).revoke(user);
    expect(await revoked()).toContain(user);
    expect((await claims()).iss).toBe(bed.operatorSigningKey.getPublicKey());
    await (await bed.connect()).close();
  });

  it('drops its own entries when their credentials have expired, and no others', async () => {
    const file = join(bed.dir.path, `ledger-${randomUUID()}.json`);
    const [old = '', young = '', foreign = ''] = [1, 2, 3].map(() => createUser().getPublicKey());
    const now = Date.now();
    const account = await claims();
    account.nats.revocations = Object.fromEntries([old, young, foreign].map((user) => [user, 1_000]));
    await push(await encode(Algorithms.v2, account, bed.operator));
    const ledger = await RevocationLedger.open(file, 30 * DAY);
    await ledger.add([old, young]);
    const entries = JSON.parse(await readFile(file, 'utf8')) as Record<string, number>;
    expect(Object.keys(entries)).toEqual([old, young]);
    expect(ledger.outdated(now + 29 * DAY)).toEqual([]);
    expect(ledger.outdated(now + 31 * DAY)).toEqual([old, young]);
    await writeFile(file, JSON.stringify({ [old]: now - 31 * DAY, [young]: now - DAY }));
    const fresh = createUser().getPublicKey();
    await (await revoker(await RevocationLedger.open(file, 30 * DAY))).revoke(fresh);
    const left = await revoked();
    expect(left).toEqual(expect.arrayContaining([young, foreign, fresh]));
    expect(left).not.toContain(old);
    expect(Object.keys(JSON.parse(await readFile(file, 'utf8')) as object).sort()).toEqual([young, fresh].sort());
  });

  it('says what is in its way', async () => {
    const user = createUser().getPublicKey();
    const options = { logger: silentLogger, account: bed.account.getPublicKey(), operatorSeed: seedOf(bed.operator) };
    const nobody = accountRevoker(await bed.connect(), options);
    await expect(nobody.revoke(user)).rejects.toMatchObject({ code: 'NODE_REVOCATION_FAILED' });
    const stranger = createOperator();
    const strange = accountRevoker(system, { ...options, operatorSeed: seedOf(stranger) });
    await expect(strange.revoke(user)).rejects.toThrow(/is no key of the operator/);
    expect((await claims()).iss).not.toBe(stranger.getPublicKey());
    expect(await revoked()).not.toContain(user);
    for (const operatorSeed of ['', 'SOXX', seedOf(createAccount())]) {
      const make = () => accountRevoker(system, { ...options, operatorSeed });
      expect(make).toThrow(expect.objectContaining({ code: 'NODE_REVOKER_INVALID' }));
    }
  });
});

async function push(jwt: string): Promise<void> {
  const reply = (await system.request('$SYS.REQ.CLAIMS.UPDATE', jwt)).json<{ data?: { code: number } }>();
  expect(reply.data?.code).toBe(200);
}
