import { type Duplex, duplexPair } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GuestConnection, OUTPUT_WINDOW } from '../src/index.ts';
import type { AgentRequest } from '../src/agent/agent-connection.ts';
import { encodeGuestMessage, encodeOutput } from '../src/protocol/frames.ts';
import { collect, connect, connectToAnybody, makeAgent } from './channel.ts';

/**
 * A channel whose guest's end stays while hosts come and go, as a virtio-serial port: what an earlier host has not taken
 * goes to the next one, or is lost, and neither end is told.
 */
class Port {
  readonly guest: Duplex;
  readonly #guestSide: Duplex;
  #host: Duplex | undefined;
  /** Bytes that the host may still get and send; it is gone then. */
  #budget = Infinity;
  /** What the guest's kernel has taken and no host has. */
  #left: Buffer[] = [];

  constructor() {
    [this.guest, this.#guestSide] = duplexPair();
    this.#guestSide.on('data', (bytes: Buffer) => this.#toHost(bytes));
  }

  /** Another host; it is killed when so many bytes have passed. */
  connect(budget = Infinity): Duplex {
    const [host, far] = duplexPair();
    this.#host = far;
    this.#budget = budget;
    far.on('data', (bytes: Buffer) => {
      if (this.#host === far) this.#guestSide.write(this.#allowed(bytes));
    });
    for (const bytes of this.#left.splice(0)) this.#toHost(bytes);
    return host;
  }

  #toHost(bytes: Buffer): void {
    const part = this.#allowed(bytes);
    this.#host?.write(part);
    if (part.length < bytes.length) this.#left.push(bytes.subarray(part.length));
  }

  #allowed(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#budget);
    this.#budget -= part.length;
    if (this.#budget === 0) {
      this.#host?.destroy();
      this.#host = undefined;
    }
    return part;
  }
}

describe('a host that comes after another one', () => {
  it('gets the output that is not safe yet, wherever the earlier one was killed', async () => {
    const stdout = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) % 253));
    const stderr = Buffer.from('x'.repeat(40_000));
    const kills = fc.array(fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 150_000 })), {
      maxLength: 6,
    });
    const property = fc.asyncProperty(kills, async (budgets) => {
      const port = new Port();
      const agent = makeAgent();
      void agent.attach(port.guest);
      const program = Promise.all([agent.write('stdout', stdout), agent.write('stderr', stderr)]).then(() =>
        agent.exited({ code: 0, outOfMemory: false }),
      );
      // What is on disk when a host is killed: not all that it was sent, and maybe more than it has acknowledged.
      const disk = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
      const have = { stdout: 0, stderr: 0 };
      let exit: unknown;
      for (const budget of [...budgets, Infinity]) {
        try {
          await using host = await GuestConnection.open(port.connect(budget), { have, retryMs: 5 });
          for await (const { stream, bytes } of host.output()) {
            disk[stream].push(bytes);
            have[stream] += bytes.length;
            host.ack(have);
          }
          exit = await host.exited;
        } catch (error) {
          expect(error).toMatchObject({ code: 'GUEST_DISCONNECTED' });
        }
      }
      await program;
      expect(exit).toEqual({ code: 0, outOfMemory: false });
      expect(Buffer.concat(disk.stdout).equals(stdout)).toBe(true);
      expect(Buffer.concat(disk.stderr).equals(stderr)).toBe(true);
    });
    await fc.assert(property, { numRuns: 40 });
  });

  it('finds the program waiting, with a window of output and no more', async () => {
    const agent = makeAgent();
    let pieces = 0;
    const program = (async () => {
      for (; pieces < 48; pieces++) await agent.write('stdout', Buffer.alloc(OUTPUT_WINDOW / 16, pieces));
      agent.exited({ code: 0, outOfMemory: false });
    })();
    await using first = await connect(agent);
    await first.request({ type: 'ping' });
    expect(pieces).toBeLessThanOrEqual(16);
    await first[Symbol.asyncDispose]();
    await using second = await connect(agent);
    const [{ stdout }] = await Promise.all([collect(second), program]);
    expect(stdout.length).toBe(3 * OUTPUT_WINDOW);
    expect(stdout.at(-1)).toBe(47);
  });

  it.each(['the same channel', 'a channel of its own'])(
    'over %s gets no answers of its own number to what the earlier one has asked, which is given up',
    async (over) => {
      const asked = Promise.withResolvers<AbortSignal>();
      const release = Promise.withResolvers<void>();
      const handle = async (request: AgentRequest, { signal }: { signal: AbortSignal }) => {
        if (request.type !== 'exec') return undefined;
        asked.resolve(signal);
        await release.promise;
        return { code: 1, output: '' };
      };
      const port = new Port();
      const agent = makeAgent({ handle });
      if (over === 'the same channel') void agent.attach(port.guest);
      const next = () => (over === 'the same channel' ? GuestConnection.open(port.connect()) : connect(agent));
      const earlier = await next();
      const exec = earlier.request({ type: 'exec', program: '/b', argv: [], environment: {} });
      exec.catch(() => undefined);
      const signal = await asked.promise;
      expect(signal.aborted).toBe(false);
      await using later = await next();
      expect(signal.aborted).toBe(true);
      release.resolve();
      // An answer with the number 1 that is not to this would end the connection.
      await later.request({ type: 'usage' }, { timeoutMs: 5000 });
      await later.request({ type: 'ping' }, { timeoutMs: 5000 });
      await earlier[Symbol.asyncDispose]();
    },
  );

  it('takes the place of one that is still there', async () => {
    const agent = makeAgent();
    const first = await connect(agent);
    await using second = await connect(agent);
    expect((await first.closed).code).toBe('GUEST_DISCONNECTED');
    await second.request({ type: 'ping' });
  });
});

describe('a channel that changes a byte', () => {
  it('ends at that byte: what was read before it is right, and nothing behind it is taken', async () => {
    const said = Buffer.from('The program says something that is long enough to be cut into pieces.');
    const frames = [said.subarray(0, 20), said.subarray(20, 21), said.subarray(21)].map((bytes, i) =>
      encodeOutput({ stream: 'stdout', position: [0, 20, 21][i] ?? 0, bytes }),
    );
    const bytes = Buffer.concat([
      ...frames,
      encodeGuestMessage({ type: 'exited', exit: { code: 0, outOfMemory: false } }),
    ]);
    const property = fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const { host, guest } = await connectToAnybody();
      const connection = await host;
      const read: Uint8Array[] = [];
      const reading = (async () => {
        for await (const output of connection.output()) read.push(output.bytes);
      })();
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ flip, at);
      // A length that was changed may have it wait for more.
      guest.end(changed);
      await expect(reading).rejects.toMatchObject({ code: expect.stringMatching(/^GUEST_(PROTOCOL|DISCONNECTED)$/) });
      const got = Buffer.concat(read);
      expect(said.subarray(0, got.length).equals(got)).toBe(true);
      let end = 0;
      const whole = frames.filter((frame) => (end += frame.length) <= at).length;
      expect(got.length).toBe([0, 20, 21, said.length][whole]);
    });
    await fc.assert(property, { numRuns: 200 });
  });
});
