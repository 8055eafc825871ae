import { Svcm } from '@nats-io/services';
import { connectContext, connectNats } from '@nex-nix/nats-context';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed } from './bed.ts';

interface MicroInfo {
  name: string;
  version: string;
  endpoints: { name: string; subject: string }[];
}

describeWith(['nats-server', 'crun', 'nats'], 'the nats command', () => {
  let bed: Bed;

  beforeAll(async () => {
    bed = await Bed.open();
    await bed.startNode('ours');
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const admin = <T>(...args: string[]) => bed.json<T>('nats', '--context', 'ExpAdmin', ...args);

  it('knows the contexts', async () => {
    const contexts = await bed.json<{ name: string; url: string }[]>('nats', 'context', 'ls', '--json');
    expect(contexts.map(({ name }) => name)).toEqual(['ExpAdmin', 'ExpNode', 'Sys']);
    expect(new Set(contexts.map(({ url }) => url))).toEqual(new Set([bed.services.url]));
  });

  it('sees the server through the system account', async () => {
    type Server = { server: { name: string; jetstream: boolean } };
    const servers = await bed.json<Server[]>('nats', '--context', 'Sys', 'server', 'ls', '--json');
    expect(servers).toMatchObject([{ server: { name: 'nex-dev', jetstream: true } }]);
    const { stdout } = await bed.run('nats', '--context', 'Sys', 'server', 'ping', '1');
    expect(stdout).toMatch(/^nex-dev +rtt=/);
  });

  it('lists, describes and counts node, nexlet and cache as micro services', async () => {
    const services = await admin<MicroInfo[]>('micro', 'ls', '--json');
    expect(services.map(({ name }) => name).sort()).toEqual(['NixCache', 'nexnode', 'nix']);
    for (const { name, endpoints } of services) {
      const { info, stats } = await admin<{ info: MicroInfo; stats: MicroInfo }>('micro', 'info', name, '--json');
      expect(info).toMatchObject({ name, version: '0.1.0', endpoints });
      expect(stats.endpoints.map((endpoint) => endpoint.name)).toEqual(info.endpoints.map((endpoint) => endpoint.name));
      expect((await bed.run('nats', '--context', 'ExpAdmin', 'micro', 'stats', name)).code).toBe(0);
    }
  });

  it('sees the streams', async () => {
    expect(await admin<string[]>('stream', 'ls', '--json')).toEqual(expect.arrayContaining(['NEX_FEED', 'NIX_CHUNKS']));
  });

  it('asks a service that has the credentials of EchoService', async () => {
    const nc = await connectContext({ url: bed.services.url, user_jwt: await bed.services.echoServiceJwt() });
    try {
      const service = await new Svcm(nc).add({ name: 'EchoService', version: '1.0.0' });
      service.addEndpoint('echo', { subject: 'svc.echo', handler: (_error, msg) => void msg.respond(msg.data) });
      await nc.flush();
      const { stdout } = await bed.run('nats', '--context', 'ExpAdmin', 'req', 'svc.echo', 'hello', '--raw');
      expect(stdout.trim()).toBe('hello');
      const { info } = await admin<{ info: MicroInfo }>('micro', 'info', 'EchoService', '--json');
      expect(info.endpoints).toMatchObject([{ name: 'echo', subject: 'svc.echo' }]);
      await service.stop();
    } finally {
      await nc.close();
    }
  });

  it('follows the feeds', async () => {
    await using following = bed.start('nats', '--context', 'ExpAdmin', 'sub', '$NEX.FEED.>', '--count', '1', '--raw');
    const nc = await connectNats({ context: 'ExpAdmin', configDir: bed.services.configDir });
    try {
      await waitFor('the line', () => {
        nc.publish('$NEX.FEED.default.logs.w1.stdout', 'a line');
        return following.stdout() !== '';
      });
    } finally {
      await nc.close();
    }
    expect(await following.exited).toMatchObject({ code: 0 });
    expect(following.stdout().trim()).toBe('a line');
  });
});
