import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { SandboxError } from '@nex-nix/sandbox';
import { describe, expect, it } from 'vitest';
import { ExecProbe } from './exec-probe.ts';
import { HttpProbe } from './http-probe.ts';
import { TcpProbe } from './tcp-probe.ts';

const LOCAL = async () => '127.0.0.1';
const soon = () => AbortSignal.timeout(150);
const late = () => AbortSignal.timeout(5_000);

/** A server of the loopback interface; disposing it ends its connections too. */
async function listening(server: Server): Promise<AsyncDisposable & { port: number; connections: number }> {
  const sockets = new Set<Socket>();
  const state = { connections: 0 };
  server.on('connection', (socket) => {
    state.connections++;
    sockets.add(socket.on('error', () => undefined));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  const { port } = server.address() as AddressInfo;
  return Object.assign(state, { port, [Symbol.asyncDispose]: close });
}

describe('TcpProbe', () => {
  it('finds out whether something accepts connections', async () => {
    const server = await listening(createServer());
    const probe = new TcpProbe(server.port, LOCAL);
    expect(await probe.check(late())).toEqual({ kind: 'healthy' });
    await server[Symbol.asyncDispose]();
    const why = `port ${server.port} cannot be connected to: ECONNREFUSED`;
    expect(await probe.check(late())).toEqual({ kind: 'failed', why });
  });

  it('fails without an address', async () => {
    const probe = new TcpProbe(80, async () => undefined);
    expect(await probe.check(late())).toEqual({ kind: 'failed', why: 'it has no address' });
  });
});

describe('HttpProbe', () => {
  const serving = (listener: RequestListener) => listening(createHttpServer(listener));
  const check = (port: number, signal = late()) =>
    new HttpProbe({ port, path: '/health?a=b', address: LOCAL }).check(signal);

  it('takes a 2xx for healthy, without waiting for the end of its body', async () => {
    let asked: string | undefined;
    await using server = await serving((request, response) => {
      asked = `${request.method} ${request.url}`;
      response.writeHead(204 - 4);
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more);
      more();
    });
    expect(await check(server.port)).toEqual({ kind: 'healthy' });
    expect(asked).toBe('GET /health?a=b');
  });

  it.each([301, 404, 500])('takes %d for a failure, and goes nowhere else', async (status) => {
    await using other = await serving((_request, response) => response.end());
    await using server = await serving((_request, response) => {
      response.writeHead(status, { location: `http://127.0.0.1:${other.port}/` }).end();
    });
    expect(await check(server.port)).toEqual({ kind: 'failed', why: `/health?a=b is answered by ${status}` });
    expect(other.connections).toBe(0);
  });

  it.each<[string, (socket: Socket) => void]>([
    ['says nothing', () => undefined],
    ['never gets to its answer', (socket) => setInterval(() => socket.write('HTTP/1.1 103 \r\n\r\n'), 5).unref()],
  ])('gives up on a server that %s', async (_, talk) => {
    await using server = await listening(createServer(talk));
    const began = performance.now();
    expect(await check(server.port, soon())).toEqual({
      kind: 'failed',
      why: `port ${server.port} does not answer in time`,
    });
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  it.each([
    ['a head without end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(70_000)}\r\n\r\n`],
    ['what is no HTTP', 'SSH-2.0-x\r\n'],
    ['the end of the connection', ''],
  ])('takes %s for a failure', async (_, answer) => {
    await using server = await listening(createServer((socket) => socket.on('data', () => socket.end(answer))));
    expect(await check(server.port)).toMatchObject({ kind: 'failed' });
  });

  it('takes a change of protocol for a failure', async () => {
    const head = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n';
    await using server = await listening(createServer((socket) => socket.on('data', () => socket.write(head))));
    expect(await check(server.port)).toMatchObject({ kind: 'failed' });
  });
});

describe('ExecProbe', () => {
  const command = { program: '/nix/store/x/bin/check', argv: [] };
  const check = (exec: () => Promise<{ code: number; output: string }>) =>
    new ExecProbe({ exec }, command).check(late());

  it('goes by the exit code, and tells what the command said', async () => {
    expect(await check(async () => ({ code: 0, output: 'whatever' }))).toEqual({ kind: 'healthy' });
    const why = 'its command ended with 2: no database';
    expect(await check(async () => ({ code: 2, output: '\nno database\nmore' }))).toEqual({ kind: 'failed', why });
  });

  it('fails when the command cannot be run', async () => {
    const error = new SandboxError('SANDBOX_EXEC_FAILED', 'Cannot run a command');
    expect(await check(() => Promise.reject(error))).toEqual({ kind: 'failed', why: 'Cannot run a command' });
  });
});
