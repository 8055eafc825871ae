import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Account, Algorithms, decode, encode } from '@nats-io/jwt';
import { createUser, fromSeed } from '@nats-io/nkeys';
import type { DevEvent } from '@nex-nix/devenv';
import { connectContext } from '@nex-nix/nats-context';
import { describeWith, findTool, startProcess } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed } from './bed.ts';

interface Claims {
  name: string;
  sub: string;
  nats: { description?: string; limits: Record<string, unknown> };
}

describeWith(['nats-server', 'nsc'], 'the nsc command', () => {
  let bed: Bed;

  beforeAll(async () => {
    bed = await Bed.open();
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const root = () => join(bed.services.dataDir, 'nsc');
  const nsc = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await bed.run('nsc', '-H', root(), ...args);
    const output = stdout + stderr;
    expect(output).not.toContain('migration');
    expect(code, output).toBe(0);
    return output;
  };

  const connect = async (account: string, user: string) => {
    const creds = join(root(), 'creds/Nex', account, `${user}.creds`);
    return connectContext({ url: bed.services.url, creds }, { reconnect: false });
  };
  /** Asks the server as a user of the system account. */
  const askServer = async (subject: string, payload = ''): Promise<string> => {
    const nc = await connect('SYS', 'sys');
    try {
      return (await nc.request(subject, payload, { timeout: 5000 })).string();
    } finally {
      await nc.close();
    }
  };
  const lookUp = async () => askServer(`$SYS.REQ.ACCOUNT.${bed.services.accountPublicKey}.CLAIMS.LOOKUP`);

  it('reads operator, accounts, users and keys, and finds nothing wrong', async () => {
    expect(await nsc('list', 'accounts')).toMatch(/Exp[\s\S]*SYS/);
    const account = await bed.json<Claims>('nsc', '-H', root(), 'describe', 'account', 'Exp', '--json');
    expect(account).toMatchObject({ name: 'Exp', sub: bed.services.accountPublicKey });
    expect(account.nats.limits).toMatchObject({ conn: -1, disk_storage: -1, mem_storage: -1 });
    expect(await nsc('describe', 'operator')).toContain(bed.services.url);
    expect(await nsc('list', 'users', '-a', 'Exp')).toMatch(/Admin[\s\S]*EchoService[\s\S]*Node/);
    expect(await nsc('describe', 'user', '-a', 'Exp', '-n', 'EchoService')).toMatch(/Bearer Token +\| Yes/);
    const keys = await nsc('list', 'keys', '--all');
    expect(keys.split('\n').filter((line) => /\| [OAU][A-Z2-7]{55} \|/.test(line))).toHaveLength(10);
    expect(await nsc('validate', '--all-accounts')).not.toMatch(/error|warning/i);
  });

  it('pushes the accounts to the server', async () => {
    expect(await nsc('push', '-A')).toMatch(/pushed "Exp" to nats-server nex-dev/);
  });

  it('works without -H in the environment of nex dev', async () => {
    const { HOME, ...rest } = bed.env;
    await using env = startProcess(findTool('nsc') ?? 'nsc', ['env'], {
      env: { HOME, ...rest, ...bed.services.env(), PATH: process.env['PATH'] },
    });
    await env.exited;
    expect(env.output()).toMatch(/Current Operator +\| +\| Nex +\|\s+\| Current Account +\| +\| Exp/);
    expect(env.output()).toContain(bed.services.dataDir.replace(HOME ?? '', '~'));
  });

  it('adds an account with users of its own, which the server knows once it is pushed', async () => {
    await nsc('add', 'account', '-n', 'Other');
    await nsc('add', 'user', '-a', 'Other', '-n', 'Olga');
    expect(await nsc('push', '-a', 'Other')).toMatch(/pushed "Other" to nats-server nex-dev/);
    await (await connect('Other', 'Olga')).close();
  });

  it('revokes a user, and a restart undoes neither that nor what nodes have revoked', async () => {
    await nsc('add', 'user', '-a', 'Exp', '-n', 'Rita');
    const nc = await connect('Exp', 'Rita');
    const cut = nc.closed();
    await nsc('revocations', 'add-user', '-a', 'Exp', '-n', 'Rita');
    await nsc('push', '-a', 'Exp');
    await cut;
    await expect(connect('Exp', 'Rita')).rejects.toThrow();
    // As a node does it: on the server alone.
    const other = createUser().getPublicKey();
    const { nats, ...claims } = decode<Account>(await lookUp());
    const revocations = { ...nats.revocations, [other]: Math.floor(Date.now() / 1000) };
    const signer = fromSeed(await readFile(bed.services.operatorSeedFile ?? ''));
    const revoked = await encode(Algorithms.v2, { ...claims, nats: { ...nats, revocations } }, signer);
    expect(await askServer('$SYS.REQ.CLAIMS.UPDATE', revoked)).toContain('"code":200');
    // JWTs tell their time in seconds; this one is newer, and knows nothing of that.
    await delay(1100);
    await nsc('edit', 'account', '-n', 'Exp', '--description', 'newer');
    await bed.restart();
    expect(decode<Account>(await lookUp()).nats).toMatchObject({ description: 'newer', revocations });
    await expect(connect('Exp', 'Rita')).rejects.toThrow();
  });

  it('adds a user whom the server lets in, also after a restart of the services that keeps what nsc changed', async () => {
    await nsc('add', 'user', '-a', 'Exp', '-n', 'Alice');
    expect(await nsc('generate', 'creds', '-a', 'Exp', '-n', 'Alice')).toContain('BEGIN USER NKEY SEED');
    const creds = join(root(), 'creds/Nex/Exp/Alice.creds');
    await (await connectContext({ url: bed.services.url, creds }, { reconnect: false })).close();
    await nsc('edit', 'account', '-n', 'Exp', '--description', 'edited with nsc');

    const events: DevEvent[] = [];
    await bed.restart((event) => events.push(event));
    expect(events.filter((event) => 'created' in event && event.created)).toEqual([]);
    expect(events).toContainEqual({ type: 'account', name: 'Exp', outcome: 'pushed' });
    await (await connectContext({ url: bed.services.url, creds }, { reconnect: false })).close();
    const account = await bed.json<Claims>('nsc', '-H', root(), 'describe', 'account', 'Exp', '--json');
    expect(account.nats.description).toBe('edited with nsc');
    // Through the address of the restarted server, which the services wrote into the operator.
    expect(await nsc('push', '-a', 'Exp')).toMatch(/pushed "Exp" to nats-server nex-dev/);
  });
});
