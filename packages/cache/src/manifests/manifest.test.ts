import { narHashOf } from '@nex-nix/nix';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunkIdOf } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import { MAX_CHUNK_SIZE } from '../chunks/fastcdc.ts';
import { decodeManifest, encodeManifest, type Manifest } from './manifest.ts';

const narHash = narHashOf(new Uint8Array(32));
const id = chunkIdOf(Buffer.from('hello'));
const manifest: Manifest = { narHash, narSize: 5, chunks: [{ id, size: 5 }] };

/** SHA-256 of "hello". */
const HELLO = Buffer.from('2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824', 'hex');

/** The encoding of `manifest` with another first line. */
function withHeader(change: Record<string, unknown>): Uint8Array {
  const encoded = Buffer.from(encodeManifest(manifest));
  const end = encoded.indexOf('\n');
  const header = { ...(JSON.parse(encoded.toString('utf8', 0, end)) as object), ...change };
  return Buffer.concat([Buffer.from(JSON.stringify(header)), encoded.subarray(end)]);
}

describe('encodeManifest()', () => {
  it('is a storage format', () => {
    expect(Buffer.from(encodeManifest(manifest)).toString('latin1')).toBe(
      '{"v":1,"narHash":"sha256:0000000000000000000000000000000000000000000000000000","narSize":5,' +
        '"algo":"fastcdc-64-256-1020-gear1","norm":0,"chunks":1}\n' +
        `${HELLO.toString('latin1')}\x05\0\0\0`,
    );
  });

  it('is read back as it was', () => {
    const chunk = fc.record({
      id: fc.uint8Array({ maxLength: 4 }).map(chunkIdOf),
      size: fc.integer({ min: 1, max: MAX_CHUNK_SIZE }),
    });
    fc.assert(
      fc.property(fc.array(chunk), (chunks) => {
        const narSize = chunks.reduce((sum, { size }) => sum + size, 0);
        const original = { narHash, narSize, chunks };
        expect(decodeManifest(encodeManifest(original), 'test')).toEqual(original);
      }),
    );
  });
});

describe('decodeManifest()', () => {
  const encoded = encodeManifest(manifest);
  it.each([
    ['nothing', new Uint8Array(), 'its first line makes no sense'],
    ['noise', Buffer.from('\0\x01\n\xff'), 'its first line makes no sense'],
    ['a truncated list', encoded.subarray(0, -1), 'its list of chunks is cut off'],
    ['an empty list', encoded.subarray(0, -36), 'its list of chunks is cut off'],
    ['a list that is too long', Buffer.concat([encoded, encoded.subarray(-36)]), 'its list of chunks is cut off'],
    ['another version', withHeader({ v: 2 }), 'it has format 2.0, this version reads 1.0 and 1.1'],
    ['another normalisation', withHeader({ norm: 2 }), 'it has format 1.2, this version reads 1.0 and 1.1'],
    ['a number of chunks that is none', withHeader({ chunks: -1 }), 'its list of chunks is cut off'],
    ['no number of chunks', withHeader({ chunks: 'x' }), 'its list of chunks is cut off'],
    ['a wrong size', withHeader({ narSize: 6 }), 'its chunks add up to 5 bytes, not 6'],
    ['no hash', withHeader({ narHash: 5 }), 'its first line makes no sense'],
    ['an empty chunk', encodeManifest({ narHash, narSize: 0, chunks: [{ id, size: 0 }] }), 'a chunk has 0 bytes'],
    [
      'a chunk that is too large',
      encodeManifest({ narHash, narSize: 2 ** 30, chunks: [{ id, size: 2 ** 30 }] }),
      'a chunk has 1073741824 bytes',
    ],
  ])('rejects %s', (_what, bytes, why) => {
    const decode = () => decodeManifest(bytes, '/nix/store/x');
    expect(decode).toThrow(CacheError);
    expect(decode).toThrow(`Cannot read the manifest of "/nix/store/x": ${why}`);
  });
});
