import { duplexPair } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { GuestConnection, GuestError, type HostRequest, OUTPUT_WINDOW } from '../src/index.ts';
import type { AgentRequest } from '../src/agent/agent-connection.ts';
import { encodeGuestMessage, encodeOutput } from '../src/protocol/frames.ts';
import { collect, connect, connectToAnybody, makeAgent } from './channel.ts';

const EXIT = { code: 3, outOfMemory: false };

describe('host and agent', () => {
  it('greet each other, and the host learns what the guest is', async () => {
    await using host = await connect(makeAgent({ describe: () => ({ boot: 'b7', state: 'running' }) }));
    expect(host.welcome).toMatchObject({ version: 1, agent: '1.2.3', boot: 'b7', state: 'running' });
  });

  it('greet each other though the guest was not there yet, and though what was sent before it came is lost', async () => {
    const [near, far] = duplexPair();
    const host = GuestConnection.open(near, { retryMs: 5 });
    // The first one is taken by nobody.
    await new Promise((resolve) => far.once('data', resolve));
    void makeAgent().attach(far);
    await using connection = await host;
    expect(connection.welcome.state).toBe('idle');
  });

  it('do not wait for ever, and stop when they are told to', async () => {
    const [near] = duplexPair();
    await expect(GuestConnection.open(near, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'GUEST_TIMEOUT' });
    expect(near.destroyed).toBe(true);
    const [other] = duplexPair();
    const controller = new AbortController();
    const opening = GuestConnection.open(other, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
    expect(other.destroyed).toBe(true);
  });

  it('ask and answer, in any order', async () => {
    const first = Promise.withResolvers<void>();
    const handle = async (request: AgentRequest) => {
      if (request.type === 'usage') {
        await first.promise;
        return { memory: 4096, network: { received: 1, sent: 2 } };
      }
      if (request.type === 'replace') return { replaced: request.content === 'c' };
      return undefined;
    };
    await using host = await connect(makeAgent({ handle }));
    const usage = host.request({ type: 'usage' });
    expect(await host.request({ type: 'replace', name: 'a', content: 'c' })).toEqual({ replaced: true });
    expect(await host.request({ type: 'ping' })).toBeUndefined();
    first.resolve();
    expect(await usage).toEqual({ memory: 4096, network: { received: 1, sent: 2 } });
  });

  it('say why something was refused', async () => {
    const handle = (request: AgentRequest) => {
      if (request.type === 'kill') throw new Error('kernel\u001b[31m says no');
      throw new GuestError('GUEST_REFUSED', 'there is no /bin/x', { refusal: 'program-not-found' });
    };
    await using host = await connect(makeAgent({ handle }));
    const start: HostRequest = { type: 'start', program: '/bin/x', argv: [], environment: {}, limits: {} };
    await expect(host.request(start)).rejects.toMatchObject({
      code: 'GUEST_REFUSED',
      refusal: 'program-not-found',
      message: 'Cannot start the program in a guest: there is no /bin/x',
    });
    await expect(host.request({ type: 'kill' })).rejects.toMatchObject({
      refusal: 'failed',
      message: 'Cannot kill the program in a guest: kernel\ufffd[31m says no',
    });
  });

  it('have a request that makes no sense refused, and nothing else suffers', async () => {
    await using host = await connect(makeAgent());
    const requests = [
      [{ type: 'dance' }, 'the type "dance"'],
      [{ type: 'clock', time: -1 }, '"clock.time" is not a whole number'],
      [{ type: 'signal', signal: '9' }, '"signal.signal" is not text like'],
      [{ type: 'replace', name: '../x', content: '' }, '"replace.name" is not text like'],
      [{ type: 'prepare', closure: [{ storePath: '/etc', from: 'disk' }], tmp: 1 }, '"prepare.closure[0].storePath"'],
      [{ type: 'start', program: 'sh', argv: [], environment: {}, limits: {} }, '"start.program" is not text like'],
      [{ type: 'start', program: '/s', argv: ['a\0'], environment: {}, limits: {} }, '"start.argv[0]" is not text'],
      [{ type: 'start', program: '/s', argv: [], environment: { 'a=b': '' }, limits: {} }, '"start.environment"'],
      [
        { type: 'start', program: '/s', argv: [], environment: {}, limits: {}, stdin: '?' },
        '"start.stdin" is not base64',
      ],
      [{ type: 'identify', hostname: 'a b', time: 1, seed: '', hosts: '', resolvConf: '' }, '"identify.hostname"'],
    ] as const;
    for (const [request, message] of requests) {
      await expect(host.request(request as never), message).rejects.toMatchObject({
        refusal: 'invalid',
        message: expect.stringContaining(message),
      });
    }
    await host.request({ type: 'ping' });
  });

  it('give up a request in time, or when told to, and take its late answer for none of another', async () => {
    const slow = Promise.withResolvers<void>();
    await using host = await connect(
      makeAgent({ handle: ({ type }) => (type === 'settle' ? slow.promise : undefined) }),
    );
    await expect(host.request({ type: 'settle' }, { timeoutMs: 10 })).rejects.toMatchObject({ code: 'GUEST_TIMEOUT' });
    const controller = new AbortController();
    const aborted = host.request({ type: 'settle' }, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    slow.resolve();
    await host.request({ type: 'ping' });
  });

  it('end a command whose signal is aborted, and answer when it has ended', async () => {
    const events: string[] = [];
    const handle = async (request: AgentRequest, { signal }: { signal: AbortSignal }) => {
      if (request.type !== 'exec') return undefined;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      events.push('killed');
      return { code: 137, output: '' };
    };
    await using host = await connect(makeAgent({ handle }));
    const controller = new AbortController();
    const exec = host.request(
      { type: 'exec', program: '/b', argv: [], environment: {} },
      { signal: controller.signal },
    );
    await host.request({ type: 'ping' });
    controller.abort(new Error('enough'));
    await expect(exec.finally(() => events.push('answered'))).rejects.toThrow('enough');
    expect(events).toEqual(['killed', 'answered']);
  });

  it('pass on output of any size in order, and the end of the program after it', async () => {
    const agent = makeAgent();
    await using host = await connect(agent);
    const stdout = Buffer.alloc(5 * OUTPUT_WINDOW + 17, 'abcdefghijklm');
    const stderr = Buffer.from('e'.repeat(100_000));
    const program = async () => {
      await Promise.all([agent.write('stdout', stdout), agent.write('stderr', stderr)]);
      agent.exited(EXIT);
    };
    const [output] = await Promise.all([collect(host), program()]);
    expect(output.stdout.equals(stdout)).toBe(true);
    expect(output.stderr.equals(stderr)).toBe(true);
    expect(await host.exited).toEqual(EXIT);
  });

  it('answer while nobody reads the output, of which a window is kept and no more', async () => {
    const agent = makeAgent();
    await using host = await connect(agent);
    const written = agent.write('stdout', Buffer.alloc(4 * OUTPUT_WINDOW));
    let isWritten = false;
    void written.then(() => (isWritten = true));
    await host.request({ type: 'ping' });
    const reader = host.output();
    let read = 0;
    while (read < OUTPUT_WINDOW) read += (await reader.next()).value?.bytes.length ?? 0;
    await host.request({ type: 'ping' });
    // Read, and not acknowledged: nothing more may come.
    expect({ read, isWritten }).toEqual({ read: OUTPUT_WINDOW, isWritten: false });
    host.ack({ stdout: 10, stderr: 0 });
    read += (await reader.next()).value?.bytes.length ?? 0;
    expect(read).toBe(OUTPUT_WINDOW + 10);
  });

  it('do not acknowledge what was not read', async () => {
    await using host = await connect(makeAgent());
    expect(() => host.ack({ stdout: 1, stderr: 0 })).toThrow(TypeError);
  });

  it('say that the program has ended until the host has acknowledged it', async () => {
    let acknowledged = 0;
    const agent = makeAgent({ onExitAck: () => acknowledged++ });
    agent.exited(EXIT);
    for (const round of [1, 2]) {
      await using host = await connect(agent);
      expect(host.welcome.exit).toEqual(EXIT);
      expect(await host.exited, `round ${round}`).toEqual(EXIT);
    }
    await using host = await connect(agent);
    host.ackExit();
    await host.request({ type: 'ping' });
    expect(acknowledged).toBe(1);
  });

  it('notice that the channel is gone', async () => {
    const { host, guest } = await connectToAnybody();
    const connection = await host;
    const usage = connection.request({ type: 'usage' });
    const reading = collect(connection);
    guest.destroy();
    const gone = { code: 'GUEST_DISCONNECTED' };
    await expect(usage).rejects.toMatchObject(gone);
    await expect(reading).rejects.toMatchObject(gone);
    await expect(connection.exited).rejects.toMatchObject(gone);
    await expect(connection.closed).resolves.toMatchObject(gone);
    await expect(connection.request({ type: 'usage' })).rejects.toMatchObject(gone);
  });

  it('count heartbeats only where something is missing', async () => {
    await using alive = await connect(makeAgent(), { heartbeat: { intervalMs: 10, misses: 3 } });
    const [near, far] = duplexPair();
    void makeAgent().attach(far);
    const hung = await GuestConnection.open(near, { heartbeat: { intervalMs: 10, misses: 3 } });
    far.removeAllListeners('data');
    far.pause();
    const reason = await hung.closed;
    expect(reason.code).toBe('GUEST_TIMEOUT');
    expect(reason.message).toMatch(/has not answered for 30 ms/);
    await alive.request({ type: 'ping' });
  });
});

describe('a host with a hostile guest', () => {
  const answer = (id: number, rest: object) => encodeGuestMessage({ type: 'answer', id, ...rest });
  const said = (position: number, length: number) =>
    encodeOutput({ stream: 'stdout', position, bytes: Buffer.alloc(length) });

  it.each<[string, string, Buffer | readonly Buffer[]]>([
    ['an answer that nobody asked for', 'there is no request 9', answer(9, { value: {} })],
    ['a welcome more', 'it says "welcome" a second time', []],
    ['a message of no known type', 'nothing is of the type "dance"', encodeGuestMessage({ type: 'dance' } as never)],
    ['no object', '"message" is not an object', encodeGuestMessage([1] as never)],
    ['output with a gap', 'it is at byte 5, expected 0', said(5, 1)],
    ['output that goes back', 'it is at byte 0, expected 3', [said(0, 3), said(0, 3)]],
    [
      'more output than a window',
      'were not acknowledged',
      Array.from({ length: 9 }, (_, i) => said(i * 131_072, 131_072)),
    ],
    [
      'output after the end',
      'it comes after the program has ended',
      [encodeGuestMessage({ type: 'exited', exit: EXIT }), said(0, 1)],
    ],
    [
      'an exit code that is none',
      '"exited.exit.code" is not',
      encodeGuestMessage({ type: 'exited', exit: { code: 999, outOfMemory: false } }),
    ],
    ['an exit that is no object', '"exited.exit" is not an object', encodeGuestMessage({ type: 'exited' } as never)],
  ])('ends the connection for %s', async (name, problem, frames) => {
    const { host, guest } = await connectToAnybody();
    const connection = await host;
    const welcome = encodeGuestMessage({ ...connection.welcome });
    for (const frame of name === 'a welcome more' ? [welcome] : [frames].flat()) guest.write(frame);
    const reason = await connection.closed;
    expect(reason.code).toBe('GUEST_PROTOCOL');
    expect(reason.message).toContain(problem);
    await expect(connection.request({ type: 'ping' })).rejects.toMatchObject({ code: 'GUEST_PROTOCOL' });
  });

  it.each<[string, unknown]>([
    ['no figures', { memory: 'much' }],
    ['a negative figure', { cpuMicros: -1 }],
    ['no object', null],
  ])('ends the connection for an answer with %s', async (_, value) => {
    const { host, guest } = await connectToAnybody();
    const connection: GuestConnection = await host;
    const usage = connection.request({ type: 'usage' });
    guest.write(answer(1, { value }));
    await expect(usage).rejects.toMatchObject({ code: 'GUEST_PROTOCOL' });
  });

  it('does not go on with output of which something is lost', async () => {
    const { host } = await connectToAnybody({ from: { stdout: 7, stderr: 0 } });
    await expect(host).rejects.toMatchObject({
      code: 'GUEST_PROTOCOL',
      message: expect.stringContaining('from 7 and 0 on, expected 0 and 0'),
    });
  });

  it('says so when they have no version in common', async () => {
    const { host } = await connectToAnybody({ version: 2 });
    await expect(host).rejects.toMatchObject({ code: 'GUEST_VERSION', hint: 'Build the guest image anew' });
  });
});
