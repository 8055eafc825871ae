import { describe, expect, it } from 'vitest';
import { DEFAULTS, parseSize, planWorkload } from './workload-plan.ts';

const storePath = '/nix/store/00000000000000000000000000000000-echo-1.0.0';

describe('planWorkload()', () => {
  it('fills in the defaults of the node', () => {
    expect(planWorkload({ store_path: storePath }, 'service')).toEqual({
      storePath,
      program: undefined,
      sealed: undefined,
      reservation: {},
      argv: [],
      environment: {},
      sandbox: 'oci',
      network: 'host',
      exposePorts: [],
      resources: { memory: 256 * 2 ** 20, pids: 256, tmp: 64 * 2 ** 20, logRate: 2 ** 20 },
      restart: { policy: 'always', maxRetries: Infinity, backoffMs: 1_000 },
      stop: { signal: 'SIGTERM', graceMs: 10_000 },
      health: undefined,
      function: undefined,
    });
  });

  it('takes what the request says, units resolved', () => {
    const plan = planWorkload(
      {
        store_path: storePath,
        program: 'bin/other',
        argv: ['a b'],
        environment: { GREETING: 'hi=you' },
        network: 'none',
        resources: { memory: '1.5GiB', cpus: 0.5, pids: 8, tmp: '1MiB' },
        stop: { signal: 'SIGINT', grace: '2m' },
      },
      'service',
    );
    expect(plan).toMatchObject({
      program: 'bin/other',
      argv: ['a b'],
      environment: { GREETING: 'hi=you' },
      network: 'none',
      resources: { memory: 1.5 * 2 ** 30, cpus: 0.5, pids: 8, tmp: 2 ** 20 },
      stop: { signal: 'SIGINT', graceMs: 120_000 },
    });
  });

  it('gives a microvm a network of its own where the node gives its own one', () => {
    const plan = (request: object, network: 'bridge' | 'host' | 'none') =>
      planWorkload({ store_path: storePath, ...request }, 'service', { ...DEFAULTS, sandbox: 'microvm', network });
    expect(plan({}, 'host')).toMatchObject({ sandbox: 'microvm', network: 'bridge' });
    expect(plan({}, 'none')).toMatchObject({ network: 'none' });
    expect(plan({ network: 'none' }, 'host')).toMatchObject({ network: 'none' });
    expect(plan({ sandbox: 'oci' }, 'host')).toMatchObject({ sandbox: 'oci', network: 'host' });
  });

  it('restarts jobs only when that is asked for, and three times at most', () => {
    expect(planWorkload({ store_path: storePath }, 'job').restart).toMatchObject({ policy: 'never' });
    const asked = planWorkload({ store_path: storePath, restart: { policy: 'on-failure' } }, 'job');
    expect(asked.restart).toEqual({ policy: 'on-failure', maxRetries: 3, backoffMs: 1_000 });
    expect(() => planWorkload({ store_path: storePath, restart: { policy: 'always' } }, 'job')).toThrow('of a job');
  });

  it('wants a function to have triggers', () => {
    expect(() => planWorkload({ store_path: storePath }, 'function')).toThrow('triggers must name a subject');
    expect(planWorkload({ store_path: storePath, triggers: ['a.*'] }, 'function').function).toEqual({
      triggers: ['a.*'],
      concurrency: 8,
      warm: 2,
      timeoutMs: 30_000,
    });
    const ports = { store_path: storePath, triggers: ['a.*'], expose_ports: [80] };
    expect(() => planWorkload(ports, 'function')).toThrow('expose_ports are for services and jobs');
  });

  it('sets aside what all invocations that a function runs at once may use', () => {
    const resources = { memory: '64MiB', cpus: 0.5 };
    const asked = { store_path: storePath, triggers: ['a'], resources, function: { concurrency: 4 } };
    expect(planWorkload(asked, 'function').reservation).toEqual({ memory: 256 * 2 ** 20, cpus: 2 });
    expect(planWorkload({ store_path: storePath, resources }, 'service').reservation.cpus).toBe(0.5);
  });

  it('takes a file below a store path as the program', () => {
    expect(planWorkload({ store_path: `${storePath}/libexec/worker` }, 'service')).toMatchObject({
      storePath,
      program: 'libexec/worker',
    });
  });

  it.each([
    [{}, 'store_path'],
    [{ store_path: '/etc/passwd' }, 'store_path'],
    [{ store_path: `${storePath}/../x` }, 'Cannot'],
    [{ store_path: storePath, network: 'macvlan' }, 'network'],
    [{ store_path: storePath, network: 'none', expose_ports: [80] }, 'expose_ports needs a network'],
    [{ store_path: storePath, expose_ports: [0] }, 'expose_ports'],
    [{ store_path: storePath, sandbox: 'jail' }, 'sandbox'],
    [{ store_path: storePath, sandbox: 'microvm', network: 'host' }, 'network of a microvm is "bridge" or "none"'],
    [{ store_path: storePath, resources: { memory: '256MB' } }, 'resources.memory'],
    [{ store_path: storePath, resources: { memory: '256MiB', disk: 1 } }, 'resources'],
    [{ store_path: storePath, argv: 'x' }, 'argv'],
    [{ store_path: storePath, restart: { policy: 'sometimes' } }, 'restart'],
    [{ store_path: storePath, restart: { backoff: '2h' } }, 'restart.backoff'],
    [{ store_path: storePath, health: {} }, 'health must have one of'],
    [{ store_path: storePath, health: { tcp: 1, exec: ['bin/a'] } }, 'health must have one of'],
    [{ store_path: storePath, network: 'none', health: { tcp: 1 } }, 'can be exec alone'],
    [{ store_path: storePath, health: { nats: 'a.>' } }, 'health.nats "a.>" is no subject'],
    [{ store_path: storePath, health: { exec: ['/bin/sh'] } }, 'health.exec "/bin/sh" must be a plain path'],
    [{ store_path: storePath, health: { tcp: 1, interval: '1ms' } }, 'health.interval "1ms" is less than 10ms'],
    [{ store_path: storePath, triggers: ['a'] }, 'triggers are for functions alone'],
    [{ store_path: storePath, function: { warm: 1 } }, 'function is for functions alone'],
    [{ store_path: storePath, program: '../../bin/sh' }, 'program "../../bin/sh" must be a plain path'],
    [{ store_path: storePath, program: '/bin/sh' }, 'program "/bin/sh" must be a plain path'],
    [{ store_path: `${storePath}/bin/a`, program: 'bin/b' }, 'program must be absent'],
    [{ store_path: storePath, environment: { 'A=B': '' } }, 'environment "A=B" is no name'],
    [{ store_path: storePath, environment: { 'A\nB': '' } }, 'is no name of a variable'],
    [{ store_path: storePath, environment: { NEX_NAMESPACE: 'x' } }, 'environment "NEX_NAMESPACE" is set by the node'],
    [{ store_path: storePath, environment: { A: 'b\0c' } }, 'gives "A" a value with a NUL character'],
    [{ store_path: storePath, argv: ['a\0b'] }, 'argv holds a NUL character'],
    [{ store_path: storePath, resources: { cpus: 0.001 } }, 'resources.cpus'],
    [{ store_path: storePath, stop: { signal: 'SIGNAL' } }, 'stop.signal "SIGNAL" is no signal'],
    [{ store_path: storePath, stop: { grace: '61m' } }, 'stop.grace "61m" is more than an hour'],
  ])('refuses %j naming the field', (request, text) => {
    expect(() => planWorkload(request, 'service')).toThrow(text);
  });
});

describe('parseSize()', () => {
  it.each([
    ['1B', 1],
    ['64KiB', 65_536],
    ['0.5MiB', 524_288],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(['0B', '0.1B', '99999999999GiB'])('refuses %j, which no memory has', (text) => {
    expect(() => parseSize(text)).toThrow('out of all bounds');
  });

  it.each(['', '5', '5MB', '-1MiB', 'MiB'])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow('write for example 256MiB');
  });
});
