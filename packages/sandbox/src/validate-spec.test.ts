import { describe, expect, it } from 'vitest';
import { SandboxError } from './sandbox-error.ts';
import type { SandboxSpec } from './sandbox.ts';
import { validateSpec } from './validate-spec.ts';

const STORE_PATH = '/nix/store/00000000000000000000000000000000-hello-1.0';
const GOOD: SandboxSpec = {
  id: 'w-1',
  closure: [{ storePath: STORE_PATH, source: '/state/store/hello' }],
  program: `${STORE_PATH}/bin/hello`,
  argv: ['--loud', ''],
  environment: { A: 'b\nc=d', _: '' },
  resources: { memory: 1, cpus: 0.01, pids: 1, tmp: 1 },
  network: 'none',
};

describe('validateSpec()', () => {
  it('accepts a plain spec, and a store path that is the program', () => {
    expect(() => validateSpec(GOOD)).not.toThrow();
    expect(() => validateSpec({ ...GOOD, program: STORE_PATH })).not.toThrow();
  });

  it.each<[string, Partial<SandboxSpec>, RegExp]>([
    ['an empty id', { id: '' }, /the id ""/],
    ['an id that leaves its folder', { id: '../x' }, /the id "\.\.\/x"/],
    ['an id of 65 characters', { id: 'x'.repeat(65) }, /the id/],
    [
      'a store path outside the store',
      { closure: [{ storePath: '/etc', source: '/etc' }] },
      /"\/etc" is not a store path/,
    ],
    ['a file below a store path', { closure: [{ storePath: `${STORE_PATH}/x`, source: '/x' }] }, /not a store path/],
    [
      'a store path with a short hash',
      { closure: [{ storePath: '/nix/store/0-x', source: '/x' }] },
      /not a store path/,
    ],
    ['a store path twice', { closure: [...GOOD.closure, ...GOOD.closure] }, /twice/],
    ['a relative source', { closure: [{ storePath: STORE_PATH, source: 'x' }] }, /the source "x"/],
    ['a program outside the closure', { program: '/bin/sh' }, /the program "\/bin\/sh"/],
    ['a program that climbs out', { program: `${STORE_PATH}/../../../bin/sh` }, /the program/],
    ['a program beside its store path', { program: `${STORE_PATH}x` }, /the program/],
    ['a NUL in an argument', { argv: ['a', 'b\0'] }, /argument 2/],
    ['an empty environment name', { environment: { '': 'x' } }, /environment name ""/],
    ['"=" in an environment name', { environment: { 'A=B': 'x' } }, /environment name "A=B"/],
    ['a newline in an environment name', { environment: { 'A\nB': 'x' } }, /environment name/],
    ['a NUL in an environment value', { environment: { A: 'x\0' } }, /value of "A"/],
    ['no memory', { resources: { memory: 0 } }, /limit memory is 0/],
    ['half a process', { resources: { pids: 0.5 } }, /limit pids is 0.5/],
    ['hardly any cpu', { resources: { cpus: 0.001 } }, /limit cpus/],
    ['an infinite tmp', { resources: { tmp: Infinity } }, /limit tmp/],
    ['no log rate', { resources: { logRate: 0 } }, /limit logRate is 0/],
    ['an unknown network', { network: 'macvlan' as 'host' }, /network "macvlan"/],
  ])('refuses %s', (_, change, message) => {
    const spec = { ...GOOD, ...change };
    expect(() => validateSpec(spec)).toThrow(SandboxError);
    expect(() => validateSpec(spec)).toThrow(message);
  });

  it('keeps environment values out of its messages', () => {
    expect(() => validateSpec({ ...GOOD, environment: { A: 'secret\0' } })).toThrow(/^(?!.*secret)/);
  });
});
