import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseStorePath,
  splitStorePath,
  storePathBaseName,
  storePathFromBaseName,
  storePathHash,
  storePathName,
  storePathPackageName,
} from '../index.ts';

const HASH = 'n3njhdsmk72zzfmsdj8llpf3yxwmj3kz';
const at = (name: string) => `/nix/store/${HASH}-${name}`;

describe('parseStorePath()', () => {
  it.each(['hello-2.12', '.hidden', 'a+b?c=d_e', 'x'.repeat(211), '...', '..a'])('accepts the name %s', (name) => {
    const path = parseStorePath(at(name));
    expect(path).toBe(at(name));
    expect(storePathHash(path)).toBe(HASH);
    expect(storePathName(path)).toBe(name);
    expect(storePathFromBaseName(storePathBaseName(path))).toBe(path);
  });

  it.each([
    ['', 'it does not begin with /nix/store/', 0],
    ['/gnu/store/x', 'it does not begin with /nix/store/', 1],
    ['/nix/store', 'it does not begin with /nix/store/', 10],
    ['nix/store/x', 'it does not begin with /nix/store/', 0],
    ['/nix/store/', 'it ends at position 11, expected nixbase32', 11],
    ['/nix/store//x', 'position 11 is "/", expected nixbase32', 11],
    [`/nix/store/${HASH}`, 'it ends at position 43, expected "-"', 43],
    [`/nix/store/${HASH.slice(1)}-x`, 'position 42 is "-", expected nixbase32', 42],
    [`/nix/store/${HASH.replace('n', 'e')}-x`, 'position 11 is "e", expected nixbase32', 11],
    [`/nix/store/${HASH.toUpperCase()}-x`, 'position 11 is "N", expected nixbase32', 11],
    [`/nix/store/${HASH}_x`, 'position 43 is "_", expected "-"', 43],
    [`/nix/store/${HASH}x-x`, 'position 43 is "x", expected "-"', 43],
    [at(''), 'its name is empty', 44],
    [at('a b'), 'position 45 is " "', 45],
    [at('a/b'), 'position 45 is "/"', 45],
    [at('ä'), 'position 44 is "ä"', 44],
    [at('x\n'), String.raw`position 45 is "\n"`, 45],
    [at('x\0'), String.raw`position 45 is "\u0000"`, 45],
    [at('x'.repeat(212)), 'its name has 212 symbols, at most 211 are allowed', 44 + 211],
    [at('.'), 'its name begins with "."', 44],
    [at('..'), 'its name begins with ".."', 44],
    [at('.-x'), 'its name begins with "."', 44],
    [at('..-x'), 'its name begins with ".."', 44],
  ])('refuses %j', (text, why, offset) => {
    const error = { code: 'NIX_STORE_PATH_INVALID', kind: 'usage', message: expect.stringContaining(why), offset };
    expect(() => parseStorePath(text)).toThrow(expect.objectContaining(error));
  });

  it('names the position of the first symbol that cannot be there', () => {
    const name = fc.stringMatching(/^[A-Za-z0-9+_?=][A-Za-z0-9+\-._?=]{0,50}$/);
    fc.assert(
      fc.property(name, fc.nat(1000), fc.constantFrom('/', ' ', '!', '\n', 'ß', '😀'), (value, n, symbol) => {
        const path = parseStorePath(at(value));
        const offset = '/nix/store/'.length + (n % (path.length - '/nix/store/'.length));
        const wrong = path.slice(0, offset) + symbol + path.slice(offset + 1);
        expect(() => parseStorePath(wrong)).toThrow(expect.objectContaining({ offset }));
        expect(() => storePathFromBaseName(wrong.slice('/nix/store/'.length))).toThrow(
          expect.objectContaining({ offset: offset - '/nix/store/'.length }),
        );
      }),
    );
  });

  it('shows only the beginning of a text without end', () => {
    const error = expect.objectContaining({ message: expect.stringMatching(/^.{300,600}$/), offset: 44 + 211 });
    expect(() => parseStorePath(at('x'.repeat(1_000_000)))).toThrow(error);
  });
});

describe('splitStorePath()', () => {
  it.each([
    [at('x'), ''],
    [at('x/'), ''],
    [at('x/bin/y'), 'bin/y'],
    [at('x/bin/'), 'bin'],
    [at('x/a..b/...'), 'a..b/...'],
  ])('splits %s', (text, subPath) => {
    expect(splitStorePath(text)).toEqual({ storePath: at('x'), subPath });
  });

  it.each([
    [at('x/..'), 46],
    [at('x/../y'), 46],
    [at('x/a/./y'), 48],
    [at('x//y'), 46],
    [at('x//'), 46],
    [at('x/a\0b'), 47],
    [at('/bin'), 44],
    ['/nix/store', 10],
  ])('refuses %j', (text, offset) => {
    expect(() => splitStorePath(text)).toThrow(expect.objectContaining({ code: 'NIX_STORE_PATH_INVALID', offset }));
  });
});

describe('storePathPackageName()', () => {
  it.each([
    ['hello-2.12', 'hello'],
    ['echo-service-1.0.0', 'echo-service'],
    ['hello', 'hello'],
    ['nodejs-20.20.2-lib', 'nodejs'],
    ['-1', '-1'],
  ])('makes of %s %s', (name, packageName) => {
    expect(storePathPackageName(parseStorePath(at(name)))).toBe(packageName);
  });
});
