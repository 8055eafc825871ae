import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ContentAddress,
  contentAddressedPath,
  type ContentReferences,
  formatContentAddress,
  parseContentAddress,
  parseStorePath,
} from '../index.ts';

const H = 'sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
const OTHER = parseStorePath('/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0');
const SIZES = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;

const anyAddress = fc
  .record({
    method: fc.constantFrom('text', 'flat', 'nar'),
    algorithm: fc.constantFrom('md5', 'sha1', 'sha256', 'sha512'),
    bytes: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  })
  .map(({ method, algorithm, bytes }): ContentAddress => {
    return { method, algorithm, digest: bytes.subarray(0, SIZES[algorithm]) };
  });

describe('parseContentAddress()', () => {
  it('undoes formatContentAddress()', () => {
    fc.assert(
      fc.property(anyAddress, (ca) => {
        expect(parseContentAddress(formatContentAddress(ca))).toEqual({ ...ca, digest: new Uint8Array(ca.digest) });
      }),
    );
  });

  it.each([`fixed:git:${H}`, `fixed:r:git:${H}`, `nar:${H}`, H, '', 'text:', 'fixed:r:', `FIXED:${H}`])(
    'does not know %j',
    (text) => {
      expect(parseContentAddress(text)).toBeUndefined();
    },
  );

  it.each([
    ['text:sha256:x', 'its sha256 digest has 1 symbols', 'text:sha256:'.length],
    [`fixed:${H.replace('9c73', '9ce3')}`, 'is "e", expected nixbase32', 'fixed:'.length + H.length - 2],
    [`fixed:r:${H}\n`, 'its sha256 digest has 53 symbols', 'fixed:r:sha256:'.length],
  ])('refuses %j', (text, why, offset) => {
    const error = { code: 'NIX_CONTENT_ADDRESS_INVALID', kind: 'usage', message: expect.stringContaining(why), offset };
    expect(() => parseContentAddress(text)).toThrow(expect.objectContaining(error));
  });
});

describe('contentAddressedPath()', () => {
  const digest = Buffer.alloc(32);

  it('takes references in any order, each once', () => {
    const another = parseStorePath('/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-x');
    const pathFor = (...references: (typeof OTHER)[]) =>
      contentAddressedPath({ method: 'text', algorithm: 'sha256', digest }, 'x', { references });
    expect(pathFor(another, OTHER, another)).toBe(pathFor(OTHER, another));
    expect(pathFor(OTHER)).not.toBe(pathFor());
  });

  it.each<[ContentAddress, ContentReferences, string]>([
    [
      { method: 'flat', algorithm: 'sha256', digest },
      { references: [OTHER] },
      'refers to other paths, and its address is flat with sha256, expected nar or text with sha256',
    ],
    [
      { method: 'flat', algorithm: 'sha256', digest },
      { self: true },
      'refers to itself, and its address is flat with sha256, expected nar with sha256',
    ],
    [
      { method: 'text', algorithm: 'sha256', digest },
      { self: true },
      'refers to itself, and its address is text with sha256, expected nar with sha256',
    ],
    [
      { method: 'nar', algorithm: 'sha1', digest: Buffer.alloc(20) },
      { references: [OTHER] },
      'its address is nar with sha1',
    ],
    [
      { method: 'nar', algorithm: 'sha512', digest: Buffer.alloc(64) },
      { self: true },
      'its address is nar with sha512',
    ],
  ])('has no path for content that cannot have its references (%#)', (ca, content, why) => {
    expect(() => contentAddressedPath(ca, 'x', content)).toThrow(
      expect.objectContaining({ code: 'NIX_CONTENT_ADDRESS_INVALID', message: expect.stringContaining(why) }),
    );
  });

  it('has no path for a text by anything but SHA-256', () => {
    expect(() => contentAddressedPath({ method: 'text', algorithm: 'sha1', digest: Buffer.alloc(20) }, 'x')).toThrow(
      'Cannot compute the store path of "x": its address is text with sha1, expected text with sha256',
    );
  });

  it.each(['', '.', 'a/b', 'x'.repeat(212)])('has no path for the name %j', (name) => {
    expect(() => contentAddressedPath({ method: 'flat', algorithm: 'sha256', digest }, name)).toThrow(
      expect.objectContaining({ code: 'NIX_STORE_PATH_INVALID' }),
    );
  });
});
