import { connectNats } from '@nex-nix/nats-context';
import { describeWith, startNatsServer } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';

/** What a JetStream client asks first. */
const ACCOUNT_INFO = '$JS.API.INFO';

describeWith(['nats-server'], 'a connection with a JetStream domain', () => {
  it('speaks to JetStream of that domain, and to nobody where there is none', async () => {
    await using server = await startNatsServer({ config: 'jetstream: { domain: hub }' });
    const ask = async (settings: object) => {
      const nc = await connectNats({ servers: server.url, env: {}, configDir: '/nonexistent', ...settings });
      try {
        return (await nc.request(ACCOUNT_INFO, '', { timeout: 2_000 })).json<{ domain?: string }>().domain;
      } finally {
        await nc.close();
      }
    };
    expect(await ask({ jetstreamDomain: 'hub' })).toBe('hub');
    await expect(ask({ jetstreamDomain: 'elsewhere' })).rejects.toThrow('no responders');
    expect(await ask({})).toBe('hub');
  });
});
