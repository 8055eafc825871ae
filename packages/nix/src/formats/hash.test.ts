import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatHash, type Hash, type HashAlgorithm, narHashOf, parseHash, parseNarHash } from '../index.ts';

const CANONICAL = 'sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const BASE64 = Buffer.from(HEX, 'hex').toString('base64');

const SIZES = { md5: 16, sha1: 20, sha256: 32, sha512: 64 };
const anyHash: fc.Arbitrary<Hash> = fc
  .constantFrom<HashAlgorithm>('md5', 'sha1', 'sha256', 'sha512')
  .chain((algorithm) =>
    fc.record({
      algorithm: fc.constant(algorithm),
      digest: fc.uint8Array({ minLength: SIZES[algorithm], maxLength: SIZES[algorithm] }),
    }),
  );

describe('parseHash()', () => {
  it.each([
    ['blake3-' + BASE64, 'algorithm "blake3" is unknown, expected one of md5, sha1, sha256, sha512', 0],
    ['__proto__:' + HEX, 'algorithm "__proto__" is unknown', 0],
    [HEX, 'it has no algorithm', undefined],
    ['', 'it has no algorithm', undefined],
    [`sha256-${HEX}`, 'its sha256 digest has 64 symbols, expected 44', 7],
    [`sha256 :${HEX}`, 'algorithm "sha256 " is unknown', 0],
    ['sha256:', 'has 0 symbols, expected 44 in base64, 52 in nixbase32 or 64 in base16', 7],
    [`${CANONICAL}\n`, 'has 53 symbols', 7],
    [`md5:${HEX}`, 'its md5 digest has 64 symbols, expected 24 in base64, 26 in nixbase32 or 32 in base16', 4],
    [`sha256:g${HEX.slice(1)}`, 'position 7 is "g", expected base16', 7],
    [`sha256:${HEX.slice(0, 63)}-`, 'position 70 is "-", expected base16', 70],
    [`sha256:${BASE64.replace('=', 'A')}`, 'position 50 is "A", expected "="', 50],
    [`sha256:${BASE64.replace('/', '_')}`, 'position 20 is "_", expected base64', 20],
    [`sha256-${BASE64.replace('U=', 'V=')}`, '"V" at position 49 has bits beyond the last byte', 49],
    [`sha256:2${'0'.repeat(51)}`, '"2" at position 7 has bits beyond the last byte', 7],
    [`sha256:0000e${'0'.repeat(47)}`, 'position 11 is "e", expected nixbase32', 11],
  ])('refuses %j', (text, why, offset) => {
    const error = { code: 'NIX_HASH_INVALID', kind: 'usage', message: expect.stringContaining(why), offset };
    expect(() => parseHash(text)).toThrow(expect.objectContaining(error));
  });

  it('reads every form that formatHash() writes', () => {
    fc.assert(
      fc.property(anyHash, fc.constantFrom('base16', 'nixbase32', 'base64', 'sri'), (hash, format) => {
        expect(parseHash(formatHash(hash, format))).toEqual(hash);
      }),
    );
  });

  it('names the position of any wrong symbol', () => {
    const position = fc.nat(1000);
    fc.assert(
      fc.property(anyHash, fc.constantFrom('base16', 'nixbase32', 'base64', 'sri'), position, (hash, format, n) => {
        const text = formatHash(hash, format);
        const start = hash.algorithm.length + 1;
        const offset = start + (n % (text.length - start));
        const wrong = `${text.slice(0, offset)}!${text.slice(offset + 1)}`;
        expect(() => parseHash(wrong)).toThrow(expect.objectContaining({ code: 'NIX_HASH_INVALID', offset }));
      }),
    );
  });
});

describe('formatHash()', () => {
  const hash = parseHash(CANONICAL);

  it.each([
    ['base16', `sha256:${HEX}`],
    ['nixbase32', CANONICAL],
    ['base64', `sha256:${BASE64}`],
    ['sri', `sha256-${BASE64}`],
  ] as const)('writes %s', (format, text) => {
    expect(formatHash(hash, format)).toBe(text);
  });

  it('takes no digest of another size', () => {
    expect(() => formatHash({ ...hash, algorithm: 'sha1' }, 'sri')).toThrow(
      new TypeError('A sha1 digest has 20 bytes, not 32'),
    );
  });
});

describe('parseNarHash()', () => {
  it.each([CANONICAL, `sha256:${HEX}`, `sha256:${HEX.toUpperCase()}`, `sha256:${BASE64}`, `sha256-${BASE64}`])(
    'reads %s',
    (text) => {
      expect(parseNarHash(text)).toBe(CANONICAL);
    },
  );

  it('refuses any algorithm but SHA-256', () => {
    expect(() => parseNarHash('sha512:' + '0'.repeat(103))).toThrow('it is sha512, expected sha256');
  });

  it('gives back what narHashOf() makes', () => {
    expect(narHashOf(Buffer.from(HEX, 'hex'))).toBe(CANONICAL);
    expect(() => narHashOf(Buffer.alloc(20))).toThrow(TypeError);
  });
});
