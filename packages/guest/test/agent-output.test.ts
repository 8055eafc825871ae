import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { OUTPUT_WINDOW } from '../src/protocol/messages.ts';
import type { GuestConnection } from '../src/host/guest-connection.ts';
import { AGENT_TOOLS, command, finish, run, script, TestGuest } from './test-guest.ts';

/** What may be on its way beside the window: the pipe, and what a stream of Node reads ahead. */
const ON_THE_WAY = 256 * 1024;

describeWith(AGENT_TOOLS, 'output of a program in a guest', () => {
  let guest: TestGuest;
  beforeEach(async () => {
    guest = await TestGuest.make();
    await guest.start();
  });
  afterEach(() => guest[Symbol.asyncDispose]());

  const start = async (text: string) => {
    const connection = await guest.connect();
    await connection.request(guest.prepareRequest({ tmp: 8 << 20 }));
    await connection.request(script(text));
    return connection;
  };

  it('waits in the program when nobody acknowledges it, and loses nothing', async () => {
    const total = 4 * OUTPUT_WINDOW;
    await using connection = await start(`
      i=0
      while [ $i -lt ${total / 65_536} ]; do
        i=$((i+1)); head -c 65536 /dev/zero | tr '\\0' "\\\\$((i % 8 + 101))"; echo $((i * 65536)) >/tmp/written
      done`);
    const written = async () => Number((await run(connection, command('cat /tmp/written'))).output);
    await waitFor('the window to be full', async () => (await written()) >= OUTPUT_WINDOW);
    // Nothing tells that a program is waiting but that it does not go on.
    const before = await written();
    for (let look = 0; look < 5; look++) await connection.request({ type: 'ping' });
    expect(await written()).toBeLessThanOrEqual(OUTPUT_WINDOW + ON_THE_WAY);
    expect(before).toBeLessThan(total);
    const { stdout, exit } = await finish(connection);
    expect(exit.code).toBe(0);
    expect(stdout.length).toBe(total);
    for (let piece = 0; piece < total / 65_536; piece++) {
      const letter = String.fromCharCode(Number.parseInt(String(((piece + 1) % 8) + 101), 8));
      if (stdout.slice(piece * 65_536, (piece + 1) * 65_536) !== letter.repeat(65_536))
        throw new Error(`piece ${piece}`);
    }
  });

  it('goes on with the next host where the one before had it for certain', async () => {
    const numbers = Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join('');
    let connection = await start('seq 1 100000; echo end >&2');
    let all = '';
    const have = { stdout: 0, stderr: 0 };
    for (let host = 0; host < 5; host++) {
      all += await readSome(connection, have);
      await connection[Symbol.asyncDispose]();
      connection = await guest.connect({ have });
    }
    for await (const { stream, bytes } of connection.output())
      if (stream === 'stdout') all += Buffer.from(bytes).toString();
    expect(all === numbers).toBe(true);
    expect(await connection.exited).toEqual({ code: 0, outOfMemory: false });
    await connection[Symbol.asyncDispose]();
  });

  it('and the end of a program are told to a host that comes after it', async () => {
    const first = await start('sleep 0.2; echo late; exit 9');
    await first[Symbol.asyncDispose]();
    await waitFor('the program to end', async () => {
      await using look = await guest.connect();
      return look.welcome.state === 'exited';
    });
    await using connection = await guest.connect();
    expect(connection.welcome).toMatchObject({ state: 'exited', exit: { code: 9 } });
    expect(await finish(connection)).toMatchObject({ stdout: 'late\n', exit: { code: 9 } });
  });

  /** Takes three pieces, and acknowledges two of them. */
  async function readSome(connection: GuestConnection, have: { stdout: number; stderr: number }): Promise<string> {
    let text = '';
    let pieces = 0;
    for await (const { stream, position, bytes } of connection.output()) {
      if (stream !== 'stdout') continue;
      if (++pieces > 2) break;
      text += Buffer.from(bytes).toString();
      have.stdout = position + bytes.length;
      connection.ack(have);
    }
    return text;
  }
});
