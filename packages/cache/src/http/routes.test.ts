import { describe, expect, it } from 'vitest';
import { routeOf } from './routes.ts';

const HASH_PART = '0'.repeat(32);
const HASH = '1'.repeat(52);

describe('routeOf()', () => {
  it.each([
    ['/nix-cache-info', { kind: 'cache-info' }],
    [`/${HASH_PART}.narinfo`, { kind: 'narinfo', hashPart: HASH_PART }],
    [`/${HASH_PART}.ls`, { kind: 'listing', hashPart: HASH_PART }],
    [`/nar/${HASH}.nar`, { kind: 'nar', file: { name: `${HASH}.nar`, hash: HASH, compression: 'none' } }],
    [`/nar/${HASH}.nar.zst`, { kind: 'nar', file: { name: `${HASH}.nar.zst`, hash: HASH, compression: 'zstd' } }],
    [`/nar/${HASH}.nar.lz4`, { kind: 'nar', file: { name: `${HASH}.nar.lz4`, hash: HASH, compression: undefined } }],
    [`/log/${HASH_PART}-a%2Bb.drv`, { kind: 'log', derivation: `/nix/store/${HASH_PART}-a+b.drv` }],
  ])('knows %s', (path, route) => {
    expect(routeOf(path)).toEqual(route);
  });

  it.each([
    '/',
    '/x',
    `/${HASH_PART}`,
    `/${HASH_PART}.narinfo/`,
    `/${'e'.repeat(32)}.narinfo`,
    `/nar/${'2'.repeat(52)}.nar`,
    `/nar/${HASH}.nar.`,
    `/nar/../${HASH}.nar`,
    `/nar/${HASH}.nar.xz.xz`,
    '/log/x',
    '/log/%E0%A4%A',
    `/log/${HASH_PART}-a%2Fb`,
  ])('does not know %s', (path) => {
    expect(routeOf(path)).toBeUndefined();
  });
});
