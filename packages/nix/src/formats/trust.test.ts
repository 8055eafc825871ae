import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  checkTrust,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  narHashOf,
  parsePublicKey,
  parseSecretKey,
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

describe('checkTrust()', () => {
  it('trusts a signature by one of the keys, whatever else is signed', () => {
    expect(checkTrust(signed, [publicKey])).toEqual({ trusted: true, by: 'signature', keyName: 'cache-1' });
  });

  it('trusts a path computed from its content', () => {
    expect(checkTrust(ADDRESSED, [])).toEqual({ trusted: true, by: 'content-address' });
  });

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

describe('keys', () => {
  it('come back from their text', () => {
    expect(signPathInfo(INFO, parseSecretKey(`${formatSecretKey(key)}\n`))).toBe(signPathInfo(INFO, key));
    expect(checkTrust(signed, [parsePublicKey(formatPublicKey(publicKey))]).trusted).toBe(true);
  });

  it('show nothing secret when printed', () => {
    const seed = formatSecretKey(key).slice('cache-1:'.length, 'cache-1:'.length + 40);
    expect(inspect(key, { depth: 9, showHidden: true })).not.toContain(seed);
  });

  it.each(['', 'name', ':AAAA', 'two words:AAAA', `name:${Buffer.alloc(31).toString('base64')}`, 'name:!!!!'])(
    'are refused as %j',
    (text) => {
      for (const parse of [parseSecretKey, parsePublicKey]) {
        expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'NIX_KEY_INVALID' }));
      }
    },
  );

  it('are refused without being shown when their halves differ', () => {
    const bytes = Buffer.from(formatSecretKey(key).slice('cache-1:'.length), 'base64');
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    const text = bytes.toString('base64');
    const error = (() => {
      try {
        return parseSecretKey(`cache-1:${text}`);
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toMatchObject({ code: 'NIX_KEY_INVALID' });
    expect(inspect(error)).not.toContain(text.slice(0, 30));
  });
});
