import { describe, expect, it } from 'vitest';
import {
  checkTrust,
  type ContentAddress,
  contentAddressedPath,
  type ContentReferences,
  formatContentAddress,
  generateSecretKey,
  narHashOf,
  parseStorePath,
  type PathInfo,
  publicKeyOf,
  requireTrust,
  signPathInfo,
} from '../index.ts';

const key = generateSecretKey('cache-1');
const publicKey = publicKeyOf(key);
const other = generateSecretKey('other-1');
const INFO: PathInfo = {
  storePath: parseStorePath('/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-app-1.0'),
  narHash: narHashOf(Buffer.alloc(32, 7)),
  narSize: 544,
  references: [parseStorePath('/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0')],
  signatures: [],
};
const signed = { ...INFO, signatures: [signPathInfo(INFO, other), signPathInfo(INFO, key)] };
/** A folder added by Nix 2.8 with `nix store add-path --name t`. */
const ADDRESSED: PathInfo = {
  storePath: parseStorePath('/nix/store/n3njhdsmk72zzfmsdj8llpf3yxwmj3kz-t'),
  narHash: 'sha256:1sfj35mgwb4l5lqp728rl9ynzkd8fvyad4cbhbwqji1x4j1wp39l' as PathInfo['narHash'],
  narSize: 880,
  references: [],
  signatures: [],
  ca: 'fixed:r:sha256:1sfj35mgwb4l5lqp728rl9ynzkd8fvyad4cbhbwqji1x4j1wp39l',
};

const OTHER = parseStorePath('/nix/store/dddddddddddddddddddddddddddddddd-other');

function addressed(ca: ContentAddress, content: ContentReferences = {}): PathInfo {
  const storePath = contentAddressedPath(ca, 'x', content);
  const references = [...(content.references ?? []), ...(content.self === true ? [storePath] : [])];
  return { ...INFO, storePath, references, ca: formatContentAddress(ca) };
}

describe('checkTrust()', () => {
  it('trusts a signature by one of the keys, whatever else is signed', () => {
    expect(checkTrust(signed, [publicKey])).toEqual({ trusted: true, by: 'signature', keyName: 'cache-1' });
  });

  it('trusts a path computed from its content', () => {
    expect(checkTrust(ADDRESSED, [])).toEqual({ trusted: true, by: 'content-address' });
  });

  it.each<[string, ContentAddress, ContentReferences]>([
    ['a file by SHA-512', { method: 'flat', algorithm: 'sha512', digest: Buffer.alloc(64, 1) }, {}],
    ['a NAR by SHA-512', { method: 'nar', algorithm: 'sha512', digest: Buffer.alloc(64, 1) }, {}],
    [
      'a text with references',
      { method: 'text', algorithm: 'sha256', digest: Buffer.alloc(32, 1) },
      { references: INFO.references },
    ],
    ['a NAR that mentions itself', { method: 'nar', algorithm: 'sha256', digest: Buffer.alloc(32, 1) }, { self: true }],
    [
      'a NAR with references that mentions itself',
      { method: 'nar', algorithm: 'sha256', digest: Buffer.alloc(32, 1) },
      { references: INFO.references, self: true },
    ],
  ])('trusts %s, whose content can be checked', (_, ca, content) => {
    const info = addressed(ca, content);
    expect(checkTrust(info, [])).toEqual({ trusted: true, by: 'content-address' });
    const [first, ...references] = info.references;
    if (first !== undefined) expect(checkTrust({ ...info, references }, []).trusted).toBe(false);
    expect(checkTrust({ ...info, references: [...info.references, OTHER] }, []).trusted).toBe(false);
  });

  it.each<[string, ContentAddress]>([
    ['a file by MD5', { method: 'flat', algorithm: 'md5', digest: Buffer.alloc(16, 1) }],
    ['a file by SHA-1', { method: 'flat', algorithm: 'sha1', digest: Buffer.alloc(20, 1) }],
    ['a NAR by SHA-1', { method: 'nar', algorithm: 'sha1', digest: Buffer.alloc(20, 1) }],
  ])('does not trust %s without a signature', (_, ca) => {
    const info = addressed(ca);
    expect(checkTrust(info, [publicKey]).trusted).toBe(false);
    const vouched = { ...info, signatures: [signPathInfo(info, key)] };
    expect(checkTrust(vouched, [publicKey])).toMatchObject({ trusted: true, by: 'signature' });
  });

  it.each(['fixed:git:sha256:x', 'unknown', '', `text:sha512:${'0'.repeat(103)}`])(
    'does not trust an address that it cannot check, %j',
    (ca) => {
      expect(checkTrust({ ...ADDRESSED, ca }, []).trusted).toBe(false);
      expect(checkTrust({ ...ADDRESSED, ca, references: [ADDRESSED.storePath] }, []).trusted).toBe(false);
    },
  );

  it.each<[string, PathInfo, string]>([
    ['unsigned', INFO, 'it is not signed; trusted are "cache-1"'],
    [
      'signed by a stranger',
      { ...INFO, signatures: [signPathInfo(INFO, other)] },
      'it is signed by "other-1"; trusted are "cache-1"',
    ],
    ['of another size', { ...signed, narSize: 545 }, 'its signature by "cache-1" does not verify'],
    ['of another hash', { ...signed, narHash: narHashOf(Buffer.alloc(32, 8)) }, 'does not verify'],
    ['with a reference less', { ...signed, references: [] }, 'does not verify'],
    [
      'signed under a stolen name',
      { ...INFO, signatures: [signPathInfo(INFO, { ...other, name: 'cache-1' })] },
      'does not verify',
    ],
    [
      'addressed under another name',
      { ...ADDRESSED, storePath: parseStorePath(`${ADDRESSED.storePath}2`) },
      'it is not signed',
    ],
    ['addressed with other content', { ...ADDRESSED, narHash: INFO.narHash }, 'it is not signed'],
    ['addressed, but with references', { ...ADDRESSED, references: INFO.references }, 'it is not signed'],
    ['addressed by nonsense', { ...ADDRESSED, ca: 'fixed:r:sha256:nonsense' }, 'it is not signed'],
  ])('does not trust a path %s', (_, info, reason) => {
    expect(checkTrust(info, [publicKey])).toEqual({ trusted: false, reason: expect.stringContaining(reason) });
  });

  it('leads to a refusal that names path, signer and trusted keys', () => {
    const info = { ...INFO, signatures: [signPathInfo(INFO, other)] };
    expect(() => requireTrust(info, [publicKey])).toThrow(
      expect.objectContaining({
        code: 'NIX_PATH_UNTRUSTED',
        kind: 'refused',
        message: `Cannot trust "${INFO.storePath}": it is signed by "other-1"; trusted are "cache-1"`,
        hint: expect.stringContaining('nix store sign'),
      }),
    );
    expect(() => requireTrust(signed, [publicKey])).not.toThrow();
  });
});
