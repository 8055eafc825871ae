import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkTrust,
  fingerprint,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  narHashOf,
  parsePublicKey,
  parseSecretKey,
  parseStorePath,
  type PathInfo,
  publicKeyOf,
  signPathInfo,
} from '../index.ts';
import { parseSignature, verifySignature } from './signing-key.ts';

const INFO: PathInfo = {
  storePath: parseStorePath('/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-app-1.0'),
  narHash: narHashOf(Buffer.alloc(32)),
  narSize: 544,
  references: [
    parseStorePath('/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-app-1.0'),
    parseStorePath('/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0'),
  ],
  signatures: [],
};
/** Made by Nix: `nix key generate-secret --key-name test-1`, and its public part. */
const SECRET = 'test-1:Pt2RgcvtE7XGVSz9A8ZesQbAM5JDj5XrghTLM9QZSWuXyf7ZpT3EKguKSt3WXqqDQMyM8oR/oVnCspmgMshlpw==';
const PUBLIC = 'test-1:l8n+2aU9xCoLikrd1l6qg0DMjPKEf6FZwrKZoDLIZac=';
const anyName = fc.stringMatching(/^[A-Za-z0-9._-]{1,30}$/);

function thrownBy(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}

describe('keys', () => {
  it('are read and written as Nix does', () => {
    expect(formatSecretKey(parseSecretKey(`${SECRET}\n`))).toBe(SECRET);
    expect(formatPublicKey(publicKeyOf(parseSecretKey(SECRET)))).toBe(PUBLIC);
    expect(formatPublicKey(parsePublicKey(` ${PUBLIC}\n`))).toBe(PUBLIC);
  });

  it('come back from their text, and sign the same', () => {
    fc.assert(
      fc.property(anyName, (name) => {
        const key = generateSecretKey(name);
        const again = parseSecretKey(formatSecretKey(key));
        const signature = signPathInfo(INFO, key);
        expect(signPathInfo(INFO, again)).toBe(signature);
        expect(parseSignature(signature)?.keyName).toBe(name);
        expect(verifySignature(INFO, signature, parsePublicKey(formatPublicKey(publicKeyOf(again))))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it.each(['', 'a:b', 'two words', 'line\n'])('have no name like %j', (name) => {
    expect(() => generateSecretKey(name)).toThrow(
      'Cannot use the secret key: its name is empty or has a colon or white space',
    );
  });

  it.each([
    ['nothing', ''],
    ['a name alone', 'name'],
    ['a name with white space', `two words:${Buffer.alloc(32).toString('base64')}`],
    ['no name', `:${Buffer.alloc(64).toString('base64')}`],
    ['31 bytes', `name:${Buffer.alloc(31).toString('base64')}`],
    ['33 bytes', `name:${Buffer.alloc(33).toString('base64')}`],
    ['63 bytes', `name:${Buffer.alloc(63).toString('base64')}`],
    ['no bytes', 'name:'],
    ['no base64', 'name:!!!!'],
    ['base64 without its padding', SECRET.slice(0, -2)],
    ['base64 for URLs', `name:${Buffer.alloc(64, 0xff).toString('base64url')}==`],
    ['white space within', `${SECRET.slice(0, 30)} ${SECRET.slice(30)}`],
  ])('are refused with %s', (_, text) => {
    for (const parse of [parseSecretKey, parsePublicKey]) {
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'NIX_KEY_INVALID', kind: 'usage' }));
    }
  });

  it('are not taken for one another', () => {
    expect(() => parseSecretKey(PUBLIC)).toThrow('it is not the base64 of 64 bytes');
    expect(() => parsePublicKey(SECRET)).toThrow('it is not the base64 of 32 bytes');
  });

  it('are refused when their halves differ', () => {
    const bytes = Buffer.from(SECRET.slice('test-1:'.length), 'base64');
    for (const at of [0, 31, 32, 63]) {
      const wrong = Buffer.from(bytes);
      wrong[at] = (wrong[at] ?? 0) ^ 1;
      expect(() => parseSecretKey(`test-1:${wrong.toString('base64')}`)).toThrow(
        'Cannot read the secret key "test-1": its two halves do not belong together',
      );
    }
  });

  it('show nothing secret in errors or when printed, however they are damaged', () => {
    const name = 'test-1'.length + 1;
    const damage = fc.record({
      at: fc.integer({ min: name, max: SECRET.length - 1 }),
      by: fc.constantFrom('', '!', 'A', ' ', ':', '='),
    });
    const pieces = Array.from({ length: SECRET.length - name - 8 }, (_, at) => SECRET.slice(name + at, name + at + 8));
    fc.assert(
      fc.property(damage, ({ at, by }) => {
        const text = `${SECRET.slice(0, at)}${by}${SECRET.slice(at + 1)}`;
        const shown = [parseSecretKey, parsePublicKey].map((parse) => {
          const result = thrownBy(() => parse(text));
          return `${inspect(result, { depth: 9, showHidden: true })} ${JSON.stringify(result)} ${String(result)}`;
        });
        expect(pieces.filter((piece) => shown.some((output) => output.includes(piece)))).toEqual([]);
      }),
    );
  });
});

describe('fingerprint()', () => {
  it('covers path, NAR hash, NAR size and the references in order', () => {
    expect(fingerprint(INFO)).toBe(
      `1;${INFO.storePath};${INFO.narHash};544;/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0,${INFO.storePath}`,
    );
    expect(fingerprint({ ...INFO, references: [] })).toBe(`1;${INFO.storePath};${INFO.narHash};544;`);
  });
});

describe('verifySignature()', () => {
  const key = parseSecretKey(SECRET);
  const signature = signPathInfo(INFO, key);

  it.each([
    ['another name', signature.replace('test-1', 'test-2')],
    [
      'another bit',
      signature.replace(/^(test-1:)(.)/, (_, name: string, symbol: string) => name + (symbol === 'A' ? 'B' : 'A')),
    ],
    ['its base64 without padding', signature.slice(0, -2)],
    ['no name', signature.slice('test-1'.length)],
    ['the public key in its place', PUBLIC],
    ['nothing', ''],
  ])('refuses a signature with %s', (_, text) => {
    expect(verifySignature(INFO, signature, publicKeyOf(key))).toBe(true);
    expect(verifySignature(INFO, text, publicKeyOf(key))).toBe(false);
  });

  it('finds the one that is right among several by the same name', () => {
    const impostor = signPathInfo(INFO, { ...generateSecretKey('x'), name: 'test-1' });
    const info = { ...INFO, signatures: [impostor, 'nonsense', signature] };
    expect(checkTrust(info, [publicKeyOf(generateSecretKey('test-1')), publicKeyOf(key)])).toEqual({
      trusted: true,
      by: 'signature',
      keyName: 'test-1',
    });
  });
});
