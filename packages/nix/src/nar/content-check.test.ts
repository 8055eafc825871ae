import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkTrust,
  type ContentAddress,
  contentAddressedPath,
  contentCheck,
  formatContentAddress,
  type HashAlgorithm,
  narHashOf,
  type PathInfo,
  storePathFromBaseName,
  storePathHash,
} from '../index.ts';
import { ModuloHash } from './modulo-hash.ts';
import { narStrings } from './nar-format.ts';

const TEXT = 'hello';
const PLAIN = ['type', 'regular', 'contents', TEXT];
const FILE = nar(...PLAIN);
const EXECUTABLE = nar('type', 'regular', 'executable', '', 'contents', TEXT);
const LINK = nar('type', 'symlink', 'target', TEXT);
const FOLDER = nar(
  'type',
  'directory',
  'entry',
  '(',
  'name',
  'a',
  'node',
  '(',
  'type',
  'symlink',
  'target',
  'b',
  ')',
  ')',
);

function nar(...node: string[]): Buffer {
  return narStrings('nix-archive-1', '(', ...node, ')');
}

function digestOf(algorithm: string, ...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The info of a path with the address `ca`, whose content is `content`. */
function infoOf(ca: ContentAddress, content: Buffer, self = false): PathInfo {
  const storePath = contentAddressedPath(ca, 'x', { self });
  return {
    storePath,
    narHash: narHashOf(digestOf('sha256', content)),
    narSize: content.length,
    references: self ? [storePath] : [],
    signatures: [],
    ca: formatContentAddress(ca),
  };
}

function verify(info: PathInfo, content: Buffer, chunkSize = content.length): void {
  const check = contentCheck(info);
  if (check === undefined) throw new Error('There is nothing to check');
  for (let at = 0; at < content.length; at += chunkSize) check.update(content.subarray(at, at + chunkSize));
  check.verify('a test');
}

describe('contentCheck()', () => {
  const algorithms: HashAlgorithm[] = ['md5', 'sha1', 'sha256', 'sha512'];
  const flat = (algorithm: HashAlgorithm): ContentAddress => ({
    method: 'flat',
    algorithm,
    digest: digestOf(algorithm, TEXT),
  });

  it.each(algorithms)('takes a file and a NAR by their %s, in pieces of any size', (algorithm) => {
    const recursive: ContentAddress = { method: 'nar', algorithm, digest: digestOf(algorithm, FOLDER) };
    for (const size of [1, 7, 8, 1000]) {
      verify(infoOf(flat(algorithm), FILE), FILE, size);
      verify(infoOf(recursive, FOLDER), FOLDER, size);
    }
    const expected = expect.objectContaining({ code: 'NIX_CONTENT_MISMATCH', kind: 'failed' });
    expect(() => verify(infoOf(recursive, LINK), LINK)).toThrow(expected);
    const other = nar('type', 'regular', 'contents', 'hallo');
    expect(() => verify(infoOf(flat(algorithm), other), other)).toThrow(expected);
  });

  it.each([
    ['an executable file', EXECUTABLE],
    ['a symbolic link', LINK],
    ['a directory', FOLDER],
    ['a directory', nar('type', 'directory', 'entry', '(', 'name', 'a', 'node', '(', ...PLAIN, ')', ')')],
    ['nothing', FILE.subarray(0, 80)],
  ])('refuses %s where a plain file is addressed', (what, content) => {
    for (const method of ['flat', 'text'] as const) {
      const info = infoOf({ ...flat('sha256'), method }, content);
      expect(() => verify(info, content)).toThrow(
        `Cannot import "${info.storePath}" from "a test": its content is ${what}, expected ${info.ca}`,
      );
    }
  });

  it('compares the NAR hash, where that is the address, without a look at the content', () => {
    const ca: ContentAddress = { method: 'nar', algorithm: 'sha256', digest: digestOf('sha256', FOLDER) };
    const info = infoOf(ca, FOLDER);
    contentCheck(info)?.verify('a test');
    const other = infoOf(ca, LINK);
    expect(() => contentCheck(other)?.verify('a test')).toThrow(
      `its content is a NAR with the hash ${other.narHash}, expected ${info.ca}`,
    );
  });

  it('has nothing to check without an address, or with one of an unknown form', () => {
    const { ca: _, ...info } = infoOf(flat('sha256'), FILE);
    expect(contentCheck(info)).toBeUndefined();
    expect(contentCheck({ ...info, ca: 'fixed:git:sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs' })).toBeUndefined();
    expect(() => contentCheck({ ...info, ca: 'fixed:sha1:nonsense' })).toThrow(
      expect.objectContaining({ code: 'NIX_CONTENT_ADDRESS_INVALID' }),
    );
  });

  it('takes content that mentions its own path in both forms of Nix, and no other content', () => {
    // The hash part is known only after the hash: what is hashed has zeros in its place.
    const content = (part: string) => nar('type', 'regular', 'contents', `a ${part} b ${part}`);
    const zeroed = content('\0'.repeat(32));
    const offsets = [zeroed.indexOf('a \0') + 2, zeroed.indexOf('b \0') + 2].map((offset) => `|${offset}`);
    for (const digest of [digestOf('sha256', zeroed), digestOf('sha256', zeroed, ...offsets)]) {
      const ca: ContentAddress = { method: 'nar', algorithm: 'sha256', digest };
      const mentioned = content(storePathHash(contentAddressedPath(ca, 'x', { self: true })));
      const info = infoOf(ca, mentioned, true);
      expect(checkTrust(info, [])).toEqual({ trusted: true, by: 'content-address' });
      for (const size of [1, 31, 33, 1000]) verify(info, mentioned, size);
      const expected = expect.objectContaining({ code: 'NIX_CONTENT_MISMATCH' });
      expect(() => verify(info, content('x'.repeat(32)))).toThrow(expected);
      expect(() => verify(info, Buffer.from(mentioned.toString('latin1').replace('a ', 'c ')))).toThrow(expected);
      // Without the reference to itself the path is another one.
      expect(checkTrust({ ...info, references: [] }, []).trusted).toBe(false);
    }
  });
});

describe('ModuloHash', () => {
  const part = storePathHash(storePathFromBaseName('abababababababababababababababab-x'));
  const zeros = '\0'.repeat(32);

  it('finds each mention, whatever stands around it and wherever the pieces end', () => {
    const piece = fc.constantFrom(part, part.slice(0, 30), 'ab', 'a', 'x', zeros);
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), sizes, (pieces, chunkSizes) => {
        const text = pieces.join('');
        const hash = new ModuloHash('sha256', part);
        for (let at = 0, n = 0; at < text.length; n++) {
          const end = at + (chunkSizes[n % chunkSizes.length] ?? 1);
          hash.update(Buffer.from(text.slice(at, end)));
          at = end;
        }
        const offsets = [...text.matchAll(new RegExp(part, 'g'))].map(({ index }) => `|${index}`);
        const zeroed = text.replaceAll(part, zeros);
        expect(hash.digests()).toEqual([digestOf('sha256', zeroed, ...offsets), digestOf('sha256', zeroed)]);
      }),
    );
  });

  it('keeps its memory bounded when content is nothing but mentions', () => {
    const hash = new ModuloHash('sha1', part);
    const chunk = Buffer.from(part.repeat(20_000));
    for (let n = 0; n < 51; n++) hash.update(chunk);
    const digests = hash.digests();
    expect(digests).toHaveLength(1);
    expect(digests[0]).toEqual(digestOf('sha1', Buffer.alloc(51 * chunk.length)));
  });
});
