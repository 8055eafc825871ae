import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { connect } from '@nats-io/transport-node';
import { DevServices } from '@nex-nix/devenv';
import { describeWith, findTool, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { beforeAll, describe, expect, it } from 'vitest';
import { BUNDLE, bundleEcho } from '../bundle.ts';

beforeAll(async () => {
  await bundleEcho();
});

function startEcho(env: NodeJS.ProcessEnv) {
  return startProcess(process.execPath, [BUNDLE], { env });
}

describe('the echo service', () => {
  it('exits with 2 without NATS_URL', async () => {
    await using echo = startEcho({});
    expect(await echo.exited).toEqual({ code: 2, signal: null });
    expect(echo.stderr()).toContain('Cannot run the echo service: NATS_URL is not set\nTry NATS_URL=');
  });
});

describeWith(['nats-server'], 'the echo service with NATS', () => {
  it('waits for a server that is not there yet, and can be stopped meanwhile', async () => {
    const dialled = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(dialled, 'listening');
    const { port } = dialled.address() as AddressInfo;
    await using stopped = startEcho({ NATS_URL: `nats://127.0.0.1:${port}` });
    await once(dialled, 'connection');
    stopped.kill('SIGTERM');
    expect(await stopped.exited).toEqual({ code: 0, signal: null });
    await using echo = startEcho({ NATS_URL: `nats://127.0.0.1:${port}` });
    await once(dialled, 'connection');
    dialled.close();
    await once(dialled, 'close');

    await using server = startProcess(findTool('nats-server') ?? '', ['-a', '127.0.0.1', '-p', String(port)]);
    await waitFor('the echo service', () => echo.output().includes('ready'));
    expect(server.pid).toBeGreaterThan(0);
    await using nc = await connect({ port });
    expect((await nc.request('svc.echo', 'hello')).string()).toBe('hello');
  });

  it('exits with 1 when NATS refuses its JWT', async () => {
    await using dir = await tempDir();
    await using services = await DevServices.start({ dataDir: dir.path, port: 0, monitorPort: 0 });
    await using echo = startEcho({ NATS_URL: services.url, NATS_JWT: 'no.good.jwt' });
    expect(await echo.exited).toEqual({ code: 1, signal: null });
    expect(echo.stderr()).toBe(
      'Cannot run the echo service: NATS refuses it. Check NATS_JWT: it must be a valid bearer JWT\n',
    );
  });
});
