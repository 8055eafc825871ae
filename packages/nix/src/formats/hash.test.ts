import { describe, expect, it } from 'vitest';
import { narHashOf, parseNarHash } from '../index.ts';

const CANONICAL = 'sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const BASE64 = Buffer.from(HEX, 'hex').toString('base64');

describe('parseNarHash()', () => {
  it.each([CANONICAL, `sha256:${HEX}`, `sha256:${HEX.toUpperCase()}`, `sha256:${BASE64}`, `sha256-${BASE64}`])(
    'reads %s',
    (text) => {
      expect(parseNarHash(text)).toBe(CANONICAL);
    },
  );

  it.each([
    ['sha512:' + '0'.repeat(103), 'it is sha512, expected sha256'],
    ['blake3-' + BASE64, 'algorithm "blake3" is unknown'],
    [HEX, 'it has no algorithm'],
    [`sha256-${HEX}`, 'does not have 64 symbols'],
    ['sha256:', 'does not have 0 symbols'],
    [`sha256:g${HEX.slice(1)}`, 'its base16 is malformed'],
    [`sha256:${BASE64.replace('=', 'A')}`, 'its base64 is malformed'],
    [`sha256:2${'0'.repeat(51)}`, 'its nixbase32 is malformed'],
  ])('refuses %s', (text, why) => {
    expect(() => parseNarHash(text)).toThrow(why);
    expect(() => parseNarHash(text)).toThrow(expect.objectContaining({ code: 'NIX_HASH_INVALID' }));
  });

  it('gives back what narHashOf() makes', () => {
    expect(narHashOf(Buffer.from(HEX, 'hex'))).toBe(CANONICAL);
    expect(() => narHashOf(Buffer.alloc(20))).toThrow(TypeError);
  });
});
