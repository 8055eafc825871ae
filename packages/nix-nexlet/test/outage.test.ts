import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  Feed,
  type Network,
  openNode,
  processesOf,
  startNetwork,
  startNodeProcess,
  sweep,
  TOOLS,
  User,
} from './bed.ts';

const COUNT = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done';

describeWith(TOOLS, 'logs while the NATS server does not answer', () => {
  let network: Network;

  beforeAll(async () => {
    network = await startNetwork();
  });
  afterAll(() => network[Symbol.asyncDispose]());

  /** Cuts everybody off from the server: it is stopped as a process. */
  const outage = (): Disposable => {
    process.kill(network.server.pid, 'SIGSTOP');
    return { [Symbol.dispose]: () => process.kill(network.server.pid, 'SIGCONT') };
  };

  it('are published by the next node, when the one that had "published" them was killed', async () => {
    const stateDir = join(network.dir.path, 'cut-off');
    const user = new User(network);
    await using feed = await Feed.open(network.nc, 'default');
    // The node talks to the server through a door of its own that can be shut for good.
    await using door = startProcess(process.execPath, [
      '-e',
      `const net = require('net');
       const sockets = new Set();
       const server = net.createServer((near) => {
         const far = net.connect(${network.server.port}, '127.0.0.1');
         for (const socket of [near, far]) { sockets.add(socket); socket.on('error', () => {}); }
         near.pipe(far); far.pipe(near);
       });
       server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
       process.on('SIGUSR1', () => { for (const socket of sockets) { socket.unpipe(); socket.pause(); } console.log('shut'); });`,
    ]);
    const port = await waitFor('the door', () => /port (\d+)\n/.exec(door.stdout())?.[1]);
    let id: string;
    {
      await using node = await startNodeProcess(network, stateDir, `nats://127.0.0.1:${port}`);
      id = await user.start(COUNT);
      await feed.line(id, '5');
      door.kill('SIGUSR1');
      await waitFor('the door to be shut', () => door.stdout().includes('shut\n'));
      const seen = feed.texts(id).length;
      const printed = () => processesOf(id);
      // Long enough for positions to be written, were they written too early.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(feed.texts(id).length).toBe(seen);
      expect((await printed()).length).toBeGreaterThan(0);
      node.kill('SIGKILL');
      await node.exited;
      await door[Symbol.asyncDispose]();
    }
    try {
      await using _node = await openNode({ nc: network.nc, key: network.key, stateDir });
      await feed.line(id, '60');
      const numbers = feed.printed(id).map(Number);
      expect(new Set(numbers).size).toBe(Math.max(...numbers));
      expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    } finally {
      await sweep(stateDir);
    }
  });

  it('keep no node from ending, and no line is missing when the server is back', async () => {
    const stateDir = join(network.dir.path, 'outage');
    const user = new User(network);
    await using feed = await Feed.open(network.nc, 'default');
    const nc = await network.server.connect({ maxReconnectAttempts: -1 });
    let id: string;
    {
      await using _node = await openNode({ nc, key: network.key, stateDir });
      id = await user.start(COUNT);
      await feed.line(id, '3');
      {
        using _cut = outage();
        const output = join(stateDir, 'sandboxes', id, 'stdout.0');
        const printed = async () => (await readFile(output, 'utf8')).split('\n').length;
        const before = await printed();
        await waitFor('lines that the server cannot get', async () => (await printed()) > before + 10);
      }
      await feed.line(id, '30');
      const numbers = feed.printed(id).map(Number);
      expect(new Set(numbers).size).toBe(Math.max(...numbers));
    }
    expect(await processesOf(id)).toEqual([]);
    await sweep(stateDir);
  });
});
