import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { ANY_PORT, choosePort, listeningInodes } from './ports.ts';

it('listeningInodes() reads only listening sockets of the port', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:107E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:107E 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
   2: 0100007F:107F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0`;
  expect(listeningInodes(table, 4222)).toEqual(['111']);
  expect(listeningInodes(table, 80)).toEqual([]);
});

it('choosePort() refuses a taken port and names who has it, but passes over a taken one of the last time, and the usual one', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const [usual, last] = [
    { last: undefined, usual: port },
    { last: port, usual: port },
  ];
  try {
    await expect(choosePort(port, usual)).rejects.toMatchObject({
      code: 'DEVENV_PORT_TAKEN',
      message: expect.stringMatching(
        new RegExp(`^Cannot listen on port ${port}: it is taken by .+ \\(pid ${process.pid}\\)$`),
      ),
      hint: `Choose another port, or end that program: kill ${process.pid}`,
    });
    expect(await choosePort(undefined, usual)).toBe(ANY_PORT);
    expect(await choosePort(undefined, last)).toBe(ANY_PORT);
    expect(await choosePort(0, last)).toBe(ANY_PORT);
  } finally {
    server.close();
    await once(server, 'close');
  }
  expect(await choosePort(port, usual)).toBe(port);
  expect(await choosePort(undefined, usual)).toBe(port);
  expect(await choosePort(0, usual)).toBe(ANY_PORT);
  expect(await choosePort(0, last)).toBe(port);
});
