import { createHash } from 'node:crypto';
import { formatHash, type HashAlgorithm, parseHash } from '@nex-nix/nix';
import { describeEachNix } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';

const ALGORITHMS: readonly HashAlgorithm[] = ['md5', 'sha1', 'sha256', 'sha512'];

describeEachNix('hashes and real Nix', (nix) => {
  it('they are written in every base as Nix writes them, and Nix reads them', async () => {
    const hashes = ALGORITHMS.flatMap((algorithm) =>
      ['', 'a', 'b', 'c'].map((text) => ({ algorithm, digest: createHash(algorithm).update(text).digest() })),
    );
    const forms = [
      ['to-base16', 'base16'],
      ['to-base32', 'nixbase32'],
      ['to-base64', 'base64'],
      ['to-sri', 'sri'],
    ] as const;
    for (const [command, format] of forms) {
      const written = hashes.map((hash) => formatHash(hash, format));
      // Nix is given every form but the one it is to print, which has no algorithm before it unless it is SRI.
      for (const [, other] of forms.filter(([, form]) => form !== format)) {
        const given = hashes.map((hash) => formatHash(hash, other));
        const printed = (await nix.run('nix', 'hash', command, ...given)).toString().trim().split('\n');
        expect(written.map((text) => (format === 'sri' ? text : text.replace(/^.*:/, '')))).toEqual(printed);
      }
    }
  });

  it.each([
    `sha256:2${'0'.repeat(51)}`,
    `sha256:0000e${'0'.repeat(47)}`,
    `sha256:g${'0'.repeat(63)}`,
    `sha256:${'0'.repeat(51)}`,
    `sha256-${'A'.repeat(40)}`,
    `sha3:${'0'.repeat(52)}`,
  ])('%s is refused by both', async (text) => {
    await expect(nix.run('nix', 'hash', 'to-sri', text)).rejects.toThrow(/error/);
    expect(() => parseHash(text)).toThrow(expect.objectContaining({ code: 'NIX_HASH_INVALID' }));
  });

  it('nix-hash prints what formatHash() writes', async () => {
    const hash = parseHash('sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=');
    const hex = formatHash(hash, 'base16').slice('sha1:'.length);
    const printed = (await nix.run('nix-hash', '--to-base32', '--type', 'sha1', hex)).toString().trim();
    expect(formatHash(hash, 'nixbase32')).toBe(`sha1:${printed}`);
  });
});
