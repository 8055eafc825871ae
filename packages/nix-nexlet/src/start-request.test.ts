import { describe, expect, it } from 'vitest';
import { parseSize, planWorkload } from './start-request.ts';

const storePath = '/nix/store/00000000000000000000000000000000-echo-1.0.0';

describe('planWorkload()', () => {
  it('fills in the defaults of the node', () => {
    expect(planWorkload({ store_path: storePath })).toEqual({
      storePath,
      program: undefined,
      sealed: undefined,
      reservation: {},
      argv: [],
      environment: {},
      network: 'host',
      resources: { memory: 256 * 2 ** 20, pids: 256, tmp: 64 * 2 ** 20 },
      stop: { signal: 'SIGTERM', graceMs: 10_000 },
    });
  });

  it('takes what the request says, units resolved', () => {
    const plan = planWorkload({
      store_path: storePath,
      program: 'bin/other',
      argv: ['a b'],
      environment: { GREETING: 'hi=you' },
      network: 'none',
      resources: { memory: '1.5GiB', cpus: 0.5, pids: 8, tmp: '1MiB' },
      stop: { signal: 'SIGINT', grace: '2m' },
    });
    expect(plan).toMatchObject({
      program: 'bin/other',
      argv: ['a b'],
      environment: { GREETING: 'hi=you' },
      network: 'none',
      resources: { memory: 1.5 * 2 ** 30, cpus: 0.5, pids: 8, tmp: 2 ** 20 },
      stop: { signal: 'SIGINT', graceMs: 120_000 },
    });
  });

  it('takes a file below a store path as the program', () => {
    expect(planWorkload({ store_path: `${storePath}/libexec/worker` })).toMatchObject({
      storePath,
      program: 'libexec/worker',
    });
  });

  it.each([
    [{}, 'store_path'],
    [{ store_path: '/etc/passwd' }, 'store_path'],
    [{ store_path: `${storePath}/../x` }, 'Cannot'],
    [{ store_path: storePath, network: 'bridge' }, 'network'],
    [{ store_path: storePath, sandbox: 'microvm' }, 'sandbox'],
    [{ store_path: storePath, resources: { memory: '256MB' } }, 'resources.memory'],
    [{ store_path: storePath, resources: { memory: '256MiB', disk: 1 } }, 'resources'],
    [{ store_path: storePath, argv: 'x' }, 'argv'],
    [{ store_path: storePath, restart: { policy: 'always' } }, 'restart'],
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
    expect(() => planWorkload(request)).toThrow(text);
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
