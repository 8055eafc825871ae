import { once } from 'node:events';
import { connect as connectTo, type Socket } from 'node:net';
import { describeWith } from '@nex-nix/test-kit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encodeMessage } from '../src/protocol/frames.ts';
import type { HostMessage, Identify } from '../src/protocol/messages.ts';
import type { GuestConnection } from '../src/host/guest-connection.ts';
import { AGENT_TOOLS, BUSYBOX, command, finish, run, script, TestGuest } from './test-guest.ts';

const identity: Identify = {
  type: 'identify',
  hostname: 'guest-1',
  time: 0,
  seed: Buffer.alloc(32, 7).toString('base64'),
  hosts: '127.0.0.1 localhost guest-1\n',
  resolvConf: 'nameserver 192.0.2.53\n',
};

describeWith(AGENT_TOOLS, 'what the agent of a guest is asked for', () => {
  let guest: TestGuest;
  let connection: GuestConnection;
  beforeEach(async () => {
    guest = await TestGuest.make();
    await guest.start();
    connection = await guest.connect();
  });
  afterEach(async () => {
    await connection[Symbol.asyncDispose]();
    await guest[Symbol.asyncDispose]();
  });

  /** Says how a request is refused. */
  const refusal = async (request: Promise<unknown>) =>
    request.then(
      () => 'not refused',
      (error: { refusal?: string }) => error.refusal,
    );

  it('runs a program with its arguments, variables and input, and tells its exit code', async () => {
    expect(connection.welcome.state).toBe('idle');
    await connection.request(guest.prepareRequest());
    const text = `tr '\\0' '\\n' </proc/$$/environ; echo "$1"; cat; cat /dev/stdin; echo bad >&2; exit 3`;
    const program = script(text, { environment: { A: 'b c', HOME: '/tmp' } });
    program.argv.push('sh', 'an argument');
    await connection.request({ ...program, stdin: Buffer.from('its input').toString('base64') });
    const { stdout, stderr, exit } = await finish(connection);
    expect(stdout).toBe('A=b c\nHOME=/tmp\nan argument\nits inputits input');
    expect({ stderr, exit }).toEqual({ stderr: 'bad\n', exit: { code: 3, outOfMemory: false } });
    await using later = await guest.connect({ have: { stdout: stdout.length, stderr: stderr.length } });
    expect(later.welcome).toMatchObject({ state: 'exited', exit });
  });

  it('refuses what comes at the wrong time, and goes on', async () => {
    expect(await refusal(connection.request(script('true')))).toBe('invalid');
    expect(await refusal(connection.request({ type: 'signal', signal: 'SIGTERM' }))).toBe('invalid');
    const exec = command('true');
    expect(await refusal(connection.request(exec))).toBe('invalid');
    await connection.request({ type: 'kill' });
    await connection.request(guest.prepareRequest());
    expect(await refusal(connection.request(guest.prepareRequest()))).toBe('invalid');
    expect(await refusal(connection.request(identity))).toBe('invalid');
    await connection.request(script('true'));
    expect(await refusal(connection.request(script('true')))).toBe('invalid');
    await finish(connection);
    expect(await refusal(connection.request(exec))).toBe('invalid');
    await connection.request({ type: 'signal', signal: 'SIGTERM' });
    await connection.request({ type: 'kill' });
    await connection.request({ type: 'ping' });
  });

  it('answers a request that makes no sense, and goes on', async () => {
    const socket = connectTo(guest.socket);
    const say = (message: unknown) => socket.write(encodeMessage(message as HostMessage, 1 << 20));
    say({ type: 'hello', versions: [1], session: 's'.repeat(20), have: { stdout: 0, stderr: 0 } });
    say({ type: 'prepare', id: 1, closure: [{ storePath: '/nix/store/../../etc', from: 'image' }], tmp: 1 });
    say({ type: 'dance', id: 2 });
    say({ type: 'ping', id: 3 });
    let said = '';
    for await (const [bytes] of on(socket)) {
      said += bytes.toString('latin1');
      if (said.includes('"id":3')) break;
    }
    socket.destroy();
    expect(said.match(/"id":[123],"(error":\{"code":"\w+"|value)/g)).toEqual([
      '"id":1,"error":{"code":"invalid"',
      '"id":2,"error":{"code":"invalid"',
      '"id":3,"value',
    ]);
  });

  it('tells why a root cannot be made, after which another one can', async () => {
    const missing = `/nix/store/${'b'.repeat(32)}-missing`;
    const request = guest.prepareRequest({ closure: [{ storePath: missing, from: 'image' }] });
    await expect(connection.request(request)).rejects.toThrow(`Cannot show "${missing}": the image does not have it`);
    await expect(connection.request(guest.prepareRequest({ disk: 7 }))).rejects.toThrow('there is no such slot');
    await expect(connection.request(guest.prepareRequest({ scratch: 1 }))).rejects.toThrow('no mkfs.ext4');
    await connection.request(guest.prepareRequest());
    await connection.request(script('echo fine'));
    expect(await finish(connection)).toMatchObject({ stdout: 'fine\n' });
  });

  it('tells apart what is not there and what cannot be executed, and starts the next one', async () => {
    const files = await guest.addToDisk('programs', {
      plain: 'text',
      interpreted: '#!/no/interpreter\n',
      garbage: '#!x',
    });
    await connection.request(guest.prepareRequest());
    const start = (program: string) => refusal(connection.request({ ...script(''), program }));
    expect(await start(`${files}/missing`)).toBe('program-not-found');
    expect(await start(`${BUSYBOX}/bin/busybox/more`)).toBe('program-not-found');
    expect(await start(`${files}/plain`)).toBe('program-not-executable');
    expect(await start(`${files}/interpreted`)).toBe('program-not-executable');
    expect(await start(files)).toBe('program-not-executable');
    expect(guest.isPopulated).toBe(true);
    await connection.request(script('exit 4'));
    expect(await finish(connection)).toEqual({ stdout: '', stderr: '', exit: { code: 4, outOfMemory: false } });
  });

  it('limits memory where the kernel can, and else refuses to start', async () => {
    await connection.request(guest.prepareRequest());
    const start = connection.request(script('tail /dev/zero', { limits: { memory: 16 << 20 } }));
    if (guest.hasController('memory')) {
      await start;
      expect((await finish(connection)).exit).toMatchObject({ code: 137, outOfMemory: true });
    } else {
      await expect(start).rejects.toThrow('"memory.max" of its cgroup cannot be written');
      await connection.request(script('exit 5'));
      expect((await finish(connection)).exit.code).toBe(5);
    }
  });

  it('sends signals, and kills all that the program has started', async () => {
    await connection.request(guest.prepareRequest());
    const text = `
      trap 'echo terminated; >/tmp/terminated' TERM
      setsid sleep 1000 &
      echo ready; >/tmp/ready
      while :; do wait; done`;
    await connection.request(script(text));
    const result = finish(connection);
    expect(await refusal(connection.request({ type: 'signal', signal: 'SIGNOT' }))).toBe('invalid');
    const has = (file: string) => run(connection, command(`until [ -e ${file} ]; do sleep 0.01; done`));
    await has('/tmp/ready');
    await connection.request({ type: 'signal', signal: 'SIGTERM' });
    await has('/tmp/terminated');
    await connection.request({ type: 'kill' });
    const { stdout, exit } = await result;
    expect(exit).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
    expect(stdout).toBe('ready\nterminated\n');
  });

  it('ends what a program leaves behind, so that its output has an end', async () => {
    await connection.request(guest.prepareRequest());
    await connection.request(script('setsid sleep 1000 & exit 0'));
    expect(await finish(connection)).toEqual({ stdout: '', stderr: '', exit: { code: 0, outOfMemory: false } });
  });

  it('becomes somebody: names, addresses, randomness, and other files to look them up in', async () => {
    const before = connection.welcome.boot;
    const network = {
      mac: '02:00:00:00:00:01',
      addresses: ['192.0.2.7/24', '2001:db8::7/64'],
      gateways: ['192.0.2.1', '2001:db8::1'],
      mtu: 1400,
    };
    const bad = { ...network, addresses: ['192.0.2.7/33'] };
    expect(await refusal(connection.request({ ...identity, time: Date.now(), network: bad }))).toBe('invalid');
    const unreachable = { ...network, addresses: [] };
    await expect(connection.request({ ...identity, time: Date.now(), network: unreachable })).rejects.toThrow(
      'Cannot set up the gateway 192.0.2.1: ENETUNREACH',
    );
    await connection.request({ ...identity, time: Date.now(), network });
    await connection.request(guest.prepareRequest());
    await connection.request(
      script(
        'hostname; cat /proc/sys/kernel/random/boot_id /etc/hosts /etc/resolv.conf; ip addr show nex0; ip route; ip -6 route; ip addr show lo; whoami',
      ),
    );
    const { stdout } = await finish(connection);
    for (const word of [
      'guest-1\n',
      identity.hosts,
      identity.resolvConf,
      'mtu 1400',
      'ether 02:00:00:00:00:01',
      'inet 192.0.2.7/24',
      'inet6 2001:db8::7/64',
      'default via 192.0.2.1 dev nex0',
      'default via 2001:db8::1 dev nex0',
      'inet 127.0.0.1/8',
      '\nnex\n',
    ]) {
      expect(stdout).toContain(word);
    }
    const usage = await connection.request({ type: 'usage' });
    expect(usage.network).toEqual({ received: expect.any(Number), sent: expect.any(Number) });
    await using later = await guest.connect({ have: { stdout: stdout.length, stderr: 0 } });
    expect(later.welcome.boot).not.toBe(before);
    expect(stdout).toContain(`guest-1\n${later.welcome.boot}\n`);
  });

  it('does all once for a snapshot, and is as before', async () => {
    await connection.request({ type: 'settle' });
    await connection.request({ type: 'clock', time: Date.now() });
    await using later = await guest.connect();
    expect(later.welcome.state).toBe('idle');
    await later.request(guest.prepareRequest());
    await later.request(script('cat /proc/self/mountinfo; ls /tmp'));
    const { stdout } = await finish(later);
    expect(stdout).not.toContain('rehearsal');
  });

  it('powers off', async () => {
    await connection.request({ type: 'shutdown' });
    await guest.ended();
    expect(guest.isPopulated).toBe(false);
  });
});

async function* on(socket: Socket): AsyncGenerator<[Buffer]> {
  for (;;) yield (await once(socket, 'data')) as [Buffer];
}
