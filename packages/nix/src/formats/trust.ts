import { provingContentAddress } from './content-address.ts';
import { NixError } from '../nix-error.ts';
import type { PathInfo } from './path-info.ts';
import { parseSignature, type PublicKey, verifySignature } from './signing-key.ts';

/** Whether a path may be believed, and because of what or why not; `reason` is the middle of a sentence about the path. */
export type Trust =
  | { readonly trusted: true; readonly by: 'signature'; readonly keyName: string }
  | { readonly trusted: true; readonly by: 'content-address' }
  | { readonly trusted: false; readonly reason: string };

/**
 * Whether `info` may be believed: one of `keys` signed it, or its path is computed from its content.
 *
 * The second holds only together with a check of the content itself: the NAR hash and {@link contentCheck},
 * as `LocalStore.add` does. Addresses by MD5 and SHA-1 need a signature, since others can make content with the same hash.
 */
export function checkTrust(info: PathInfo, keys: readonly PublicKey[]): Trust {
  for (const signature of info.signatures) {
    for (const key of keys) {
      if (verifySignature(info, signature, key)) return { trusted: true, by: 'signature', keyName: key.name };
    }
  }
  if (provingContentAddress(info) !== undefined) return { trusted: true, by: 'content-address' };
  return { trusted: false, reason: explain(info, keys) };
}

/**
 * Throws unless {@link checkTrust} trusts `info`.
 *
 * @throws {@link NixError} `NIX_PATH_UNTRUSTED`.
 */
export function requireTrust(info: PathInfo, keys: readonly PublicKey[]): void {
  const trust = checkTrust(info, keys);
  if (trust.trusted) return;
  throw new NixError('NIX_PATH_UNTRUSTED', `Cannot trust "${info.storePath}": ${trust.reason}`, {
    hint: `Add the signer's key to the trusted public keys, or sign the path: nix store sign --recursive --key-file KEY ${info.storePath}`,
  });
}

function explain(info: PathInfo, keys: readonly PublicKey[]): string {
  const signers = new Set(info.signatures.map((signature) => parseSignature(signature)?.keyName ?? '(malformed)'));
  const known = new Set(keys.map((key) => key.name));
  const trusted = known.size === 0 ? 'no key is trusted' : `trusted are ${quoted(known)}`;
  if (signers.size === 0) return `it is not signed; ${trusted}`;
  const forged = [...signers].filter((name) => known.has(name));
  if (forged.length > 0) return `its signature by ${quoted(forged)} does not verify`;
  return `it is signed by ${quoted(signers)}; ${trusted}`;
}

function quoted(names: Iterable<string>): string {
  return [...names].map((name) => `"${name}"`).join(', ');
}
