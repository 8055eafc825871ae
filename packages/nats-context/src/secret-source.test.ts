import { homedir } from 'node:os';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { expandPath, filePath, fileSecret, literalSecret } from './secret-source.ts';

afterEach(() => vi.unstubAllEnvs());

it.each([
  ['/a/$X/${X}y', '/a/1/1y'],
  ['$UNSET/a', '/a'],
  ['~/a', `${homedir()}/a`],
  ['~', homedir()],
  ['/a/~', '/a/~'],
  ['~other/a', '~other/a'],
])('expandPath() makes of %s', (path, expected) => {
  expect(expandPath(path, { X: '1' })).toBe(expected);
});

describe('secrets', () => {
  it('come from the environment and from data URLs', () => {
    vi.stubEnv('SECRET_OF_TEST', 'abc');
    expect(literalSecret('token', 'env://SECRET_OF_TEST')).toBe('abc');
    expect(fileSecret('creds', 'data:;base64,aGk=')()).toBe('hi');
    expect(literalSecret('token', 'plain')).toBe('plain');
    expect(filePath('ca', 'file:///a')).toBe('/a');
  });

  it('say what is missing', () => {
    expect(() => literalSecret('token', 'env://UNSET_IN_TEST')).toThrow(
      'Cannot read the field "token" from $UNSET_IN_TEST: it is unset or empty',
    );
    expect(() => fileSecret('creds', '/none/x.creds')()).toThrow(
      'Cannot read the creds file "/none/x.creds": it does not exist',
    );
  });

  it.each(['op://vault/item', 'nsc://Nex/Exp/Admin'])('of %s are refused without showing them', (value) => {
    expect(() => fileSecret('creds', value)).toThrow(
      /^Cannot use the field "creds": values of "(op|nsc):\/\/" are not/,
    );
    expect(() => literalSecret('password', value)).toThrow(/are not supported$/);
  });
});
