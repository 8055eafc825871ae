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
    ['', 'it does not begin with /nix/store/'],
    ['/gnu/store/x', 'it does not begin with /nix/store/'],
    ['/nix/store/', 'it ends at position 11, expected nixbase32'],
    [`/nix/store/${HASH}`, 'it ends at position 43, expected "-"'],
    [`/nix/store/${HASH.slice(1)}-x`, 'position 42 is "-", expected nixbase32'],
    [`/nix/store/${HASH.replace('n', 'e')}-x`, 'position 11 is "e", expected nixbase32'],
    [`/nix/store/${HASH}_x`, 'position 43 is "_", expected "-"'],
    [at(''), 'its name is empty'],
    [at('a b'), 'position 45 is " "'],
    [at('a/b'), 'position 45 is "/"'],
    [at('ä'), 'position 44 is "ä"'],
    [at('x\n'), String.raw`position 45 is "\n"`],
    [at('x'.repeat(212)), 'its name has 212 symbols'],
    [at('.'), 'its name begins with "."'],
    [at('..'), 'its name begins with ".."'],
    [at('.-x'), 'its name begins with "."'],
    [at('..-x'), 'its name begins with ".."'],
  ])('refuses %j', (text, why) => {
    expect(() => parseStorePath(text)).toThrow(why);
    expect(() => parseStorePath(text)).toThrow(
      expect.objectContaining({ code: 'NIX_STORE_PATH_INVALID', kind: 'usage' }),
    );
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

  it.each([at('x/..'), at('x/../y'), at('x/./y'), at('x//y'), at('x//'), at('x/a\0b'), at('/bin'), '/nix/store'])(
    'refuses %j',
    (text) => {
      expect(() => splitStorePath(text)).toThrow(expect.objectContaining({ code: 'NIX_STORE_PATH_INVALID' }));
    },
  );
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
