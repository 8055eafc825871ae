import { createUser } from '@nats-io/nkeys';
import { natsConnectionData, type NatsConnectionData } from '@nex-nix/protocol';
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectWith } from '../src/index.ts';

const user = createUser();
const seed = new TextDecoder().decode(user.getSeed());
let server: TestNatsServer;

beforeAll(async () => {
  const users = `{ user: joe, password: secret }, { nkey: ${user.getPublicKey()} }`;
  server = await startNatsServer({ jetstream: false, config: `authorization { users = [ ${users} ] }` });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const data = (given: Partial<NatsConnectionData>) => natsConnectionData({ nats_servers: [server.url], ...given });

describe('connectWith()', () => {
  it.each([
    [
      'nkey and seed, before user and password',
      { nats_user_nkey: user.getPublicKey(), nats_user_seed: seed, nats_user_name: 'no' },
    ],
    ['user and password', { nats_user_name: 'joe', nats_user_password: 'secret' }],
    [
      'user and password, when there is a seed alone',
      { nats_user_seed: seed, nats_user_name: 'joe', nats_user_password: 'secret' },
    ],
  ])('connects with %s', async (_title, given) => {
    await using nc = await connectWith(data(given));
    expect(await nc.rtt()).toBeGreaterThanOrEqual(0);
  });

  it.each([{}, { nats_user_name: 'joe', nats_user_password: 'wrong' }])('is refused with %j', async (given) => {
    await expect(connectWith(data(given))).rejects.toMatchObject({
      code: 'NEXLET_NATS_REFUSED',
      kind: 'refused',
      message: `Cannot connect a nexlet to NATS at ${server.url}: the server refuses its credentials`,
    });
  });

  it('does not connect when aborted', async () => {
    await expect(connectWith(data({}), { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});
