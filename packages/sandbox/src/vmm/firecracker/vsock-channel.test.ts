import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { connectVsock } from './vsock-channel.ts';

/** A server at the socket of a vsock, which is told of each line that it is asked to connect by. */
async function vsock(answer: (line: string, socket: Socket) => void, accept: (socket: Socket) => boolean = () => true) {
  const dir = await tempDir('nex-vsock-');
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    if (accept(socket)) socket.once('data', (line) => answer(line.toString(), socket));
  }).listen(join(dir.path, 'agent.sock'));
  await once(server, 'listening');
  return {
    connect: async (signal = AbortSignal.timeout(5000)) => connectVsock(dir.path, 'agent.sock', { port: 1024, signal }),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

describe('connectVsock()', () => {
  it('asks for a port, and gives what the guest says from its first byte on', async () => {
    const asked: string[] = [];
    await using bed = await vsock((line, socket) => {
      asked.push(line);
      socket.write('OK 1073741824\nfirst words\n');
    });
    const channel = await bed.connect();
    expect(asked).toEqual(['CONNECT 1024\n']);
    const [chunk] = (await once(channel, 'data')) as [Buffer];
    expect(chunk.toString()).toBe('first words\n');
    channel.destroy();
  });

  it('takes an answer that comes in pieces', async () => {
    await using bed = await vsock((_, socket) => {
      socket.write('O');
      setImmediate(() => socket.write('K 107'));
      setTimeout(() => socket.write('3741824'), 10);
      setTimeout(() => socket.write('\nx'), 20);
    });
    const channel = await bed.connect();
    const [chunk] = (await once(channel, 'data')) as [Buffer];
    expect(chunk.toString()).toBe('x');
    channel.destroy();
  });

  it('waits until somebody listens in the guest', async () => {
    let attempts = 0;
    const answer = (_: string, socket: Socket) => {
      if (attempts === 2) socket.destroy();
      else socket.write('OK 1073741826\n');
    };
    // What was not read when it is closed is a reset at the other end.
    const accept = (socket: Socket) => {
      attempts += 1;
      if (attempts === 1) socket.destroy();
      return attempts > 1;
    };
    await using bed = await vsock(answer, accept);
    (await bed.connect()).destroy();
    expect(attempts).toBe(3);
  });

  it('gives up when it is told to', async () => {
    await using refused = await vsock((_, socket) => socket.destroy());
    await expect(refused.connect(AbortSignal.timeout(100))).rejects.toMatchObject({ name: 'TimeoutError' });
    await using silent = await vsock(() => undefined);
    await expect(silent.connect(AbortSignal.timeout(100))).rejects.toMatchObject({ name: 'TimeoutError' });
    await expect(silent.connect(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });

  it('fails on what no Firecracker answers, and without a socket', async () => {
    for (const answer of ['NO\n', 'OK\n', 'OK -1\n', 'OK 1 2\n', 'x'.repeat(100)]) {
      await using bed = await vsock((_, socket) => socket.write(answer));
      await expect(bed.connect(), answer).rejects.toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
    }
    const nowhere = connectVsock('/nowhere', 'agent.sock', { port: 1024 });
    await expect(nowhere).rejects.toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
  });
});
