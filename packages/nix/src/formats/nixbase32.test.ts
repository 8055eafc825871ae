import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeNixBase32, encodeNixBase32 } from '../index.ts';

const digest = (algorithm: string) => createHash(algorithm).digest();

describe('encodeNixBase32()', () => {
  it.each([
    [digest('sha256'), '0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73'],
    [digest('sha1'), '143xibwh31h9bvxzalr0sjvbbvpa6ffs'],
    [digest('md5'), '3y8bwfr609h3lh9ch0izcqq7fl'],
    [Buffer.alloc(32), '0'.repeat(52)],
    [Buffer.alloc(32, 0xff), `1${'z'.repeat(51)}`],
    [Buffer.alloc(0), ''],
  ])('writes what Nix writes (%#)', (bytes, text) => {
    expect(encodeNixBase32(bytes)).toBe(text);
    expect(Buffer.from(decodeNixBase32(text))).toEqual(bytes);
  });

  it('is undone by decodeNixBase32()', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        expect(decodeNixBase32(encodeNixBase32(bytes))).toEqual(bytes);
      }),
    );
  });
});

describe('decodeNixBase32()', () => {
  it.each([
    ['0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7e', 'position 51 is "e"', 51],
    ['0MDQA9W1', 'position 1 is "M"', 1],
    ['0mdqa9 1', 'position 6 is " "', 6],
    [`2${'0'.repeat(51)}`, '"2" at position 0 has bits beyond the last byte', 0],
    ['000', 'no value has 3 symbols', undefined],
  ])('refuses %s', (text, why, offset) => {
    const error = { code: 'NIX_BASE32_INVALID', kind: 'usage', message: expect.stringContaining(why), offset };
    expect(() => decodeNixBase32(text)).toThrow(expect.objectContaining(error));
  });

  it('accepts no two texts for the same bytes', () => {
    const symbol = fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'.split(''));
    fc.assert(
      fc.property(fc.string({ unit: symbol, maxLength: 60 }), (text) => {
        let bytes: Uint8Array;
        try {
          bytes = decodeNixBase32(text);
        } catch {
          return;
        }
        expect(encodeNixBase32(bytes)).toBe(text);
      }),
    );
  });
});
