import { join } from 'node:path';
import { type DevEvent, DevServices } from '@nex-nix/devenv';
import { connectContext } from '@nex-nix/nats-context';
import { describeWith } from '@nex-nix/test-kit';
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

  it('adds a user whom the server lets in, also after a restart of the services that keeps what nsc changed', async () => {
    await nsc('add', 'user', '-a', 'Exp', '-n', 'Alice');
    expect(await nsc('generate', 'creds', '-a', 'Exp', '-n', 'Alice')).toContain('BEGIN USER NKEY SEED');
    const creds = join(root(), 'creds/Nex/Exp/Alice.creds');
    await (await connectContext({ url: bed.services.url, creds }, { reconnect: false })).close();
    await nsc('edit', 'account', '-n', 'Exp', '--description', 'edited with nsc');

    const events: DevEvent[] = [];
    const { dataDir } = bed.services;
    await bed.services[Symbol.asyncDispose]();
    await using services = await DevServices.start({
      dataDir,
      port: 0,
      monitorPort: 0,
      onEvent: (event) => events.push(event),
    });
    expect(events.filter((event) => 'created' in event && event.created)).toEqual([]);
    expect(events).toContainEqual({ type: 'account', name: 'Exp', outcome: 'pushed' });
    await (await connectContext({ url: services.url, creds }, { reconnect: false })).close();
    const account = await bed.json<Claims>('nsc', '-H', root(), 'describe', 'account', 'Exp', '--json');
    expect(account.nats.description).toBe('edited with nsc');
    // Through the address of the restarted server, which the services wrote into the operator.
    expect(await nsc('push', '-a', 'Exp')).toMatch(/pushed "Exp" to nats-server nex-dev/);
  });
});
