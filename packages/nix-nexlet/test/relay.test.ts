import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { silentLogger } from '@nex-nix/nexlet';
import { tempDir, waitFor } from '@nex-nix/test-kit';
import { afterEach, describe, expect, it } from 'vitest';
import { NatsRelay } from '../src/relay/nats-relay.ts';
import { RelayListener } from '../src/relay/relay-listener.ts';

const LOOPBACK = '127.0.0.1';

describe('the relay', () => {
  const stack: AsyncDisposable[] = [];
  afterEach(async () => {
    for (const resource of stack.splice(0).toReversed()) await resource[Symbol.asyncDispose]();
  });

  async function serve(onConnection: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      onConnection(socket);
    });
    server.listen(0, LOOPBACK);
    await once(server, 'listening');
    const close = async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    };
    stack.push({ [Symbol.asyncDispose]: close });
    return { server, port: (server.address() as { port: number }).port };
  }

  async function relayTo(port: number): Promise<RelayListener> {
    const listener = await RelayListener.open({ host: LOOPBACK, port }, { host: LOOPBACK, port: 0 }, silentLogger);
    stack.push(listener);
    return listener;
  }

  function dial({ port }: { port: number }): Socket {
    const socket = connect({ host: LOOPBACK, port, allowHalfOpen: true });
    socket.on('error', () => undefined);
    stack.push({ [Symbol.asyncDispose]: async () => void socket.destroy() });
    return socket;
  }

  it('forwards both ways, and answers a client that has said all it wants', async () => {
    const { port } = await serve((socket) => {
      void text(socket).then((said) => socket.end(`you said ${said}`));
    });
    const client = dial(await relayTo(port));
    client.end('hello');
    expect(await text(client)).toBe('you said hello');
  });

  it('reads no faster than the other side takes it', async () => {
    let accepted: Socket | undefined;
    const { port } = await serve((socket) => (accepted = socket.pause()));
    const client = dial(await relayTo(port));
    await waitFor('the connection', () => accepted !== undefined);
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    while (client.write(chunk) || (await Promise.race([once(client, 'drain').then(() => true), idle()]))) {
      written += chunk.length;
      if (written > 256 << 20) break;
    }
    expect(written).toBeLessThan(64 << 20);
  });

  it('closes one side when the other is gone', async () => {
    const { port } = await serve((socket) => socket.destroy());
    const client = dial(await relayTo(port)).resume();
    await once(client, 'end');
  });

  it('takes only so many connections of one source', async () => {
    let accepted = 0;
    const { port } = await serve((socket) => {
      accepted++;
      socket.resume().on('end', () => socket.end());
    });
    const listener = await relayTo(port);
    const clients = Array.from({ length: 70 }, () => dial(listener).resume());
    const refused = clients.map(async (client) => once(client, 'end'));
    await Promise.any(refused);
    await waitFor('those that are taken', () => accepted === 64);
    clients[0]?.destroy();
    await waitFor('room for another one', () => {
      dial(listener).resume();
      return accepted > 64;
    });
  });

  it('comes back on the ports that it had, and names what names it may', async () => {
    await using dir = await tempDir();
    const { port } = await serve((socket) => socket.end('INFO'));
    const allowed: (readonly number[])[] = [];
    const gateway = {
      open: async () => LOOPBACK,
      exists: async () => true,
      allow: async (ports: readonly number[]) => void allowed.push(ports),
    };
    const options = { gateway, stateFile: `${dir.path}/relay.json`, logger: silentLogger };
    const urls = [`nats://${LOOPBACK}:${port}`, `tls://hub.example:${port}`];
    const first = await NatsRelay.open(options);
    const reachable = await first.reach(urls);
    await first[Symbol.asyncDispose]();
    const [plain = '', named = ''] = reachable.servers;
    // The server itself has its port.
    expect(plain).toMatch(new RegExp(`^nats://${LOOPBACK}:\\d+$`));
    expect(plain).not.toBe(urls[0]);
    expect(named).toMatch(/^tls:\/\/hub\.example:\d+$/);
    expect(reachable.hosts).toEqual({ [LOOPBACK]: ['hub.example'] });
    const second = await NatsRelay.open(options);
    stack.push(second);
    await second.resume();
    expect(await text(dial({ port: Number(new URL(plain).port) }))).toBe('INFO');
    expect(await second.reach(urls)).toEqual(reachable);
    expect(allowed.at(-1)).toHaveLength(2);
  });
});

/** False when nothing has happened for a while. */
async function idle(): Promise<boolean> {
  const deadline = Date.now() + 500;
  while (Date.now() < deadline) await turn();
  return false;
}
