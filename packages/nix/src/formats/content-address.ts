import { createHash } from 'node:crypto';
import { type Hash, narHashOf, parseHash } from './hash.ts';
import { NixError } from '../nix-error.ts';
import { encodeNixBase32 } from './nixbase32.ts';
import { type PathInfo, sortPaths } from './path-info.ts';
import { STORE_DIR, type StorePath, storePathFromBaseName, storePathName } from './store-path.ts';

/** What the hash of a content address is taken of: the file as text with references, the file, or the NAR. */
type ContentAddressMethod = 'text' | 'flat' | 'nar';

export interface ContentAddress extends Hash {
  readonly method: ContentAddressMethod;
}

/**
 * Parses the `CA` of a narinfo: `text:<hash>`, `fixed:<hash>` (flat) or `fixed:r:<hash>` (NAR).
 * Undefined for the forms this project does not know (`fixed:git:…`): those paths need a signature.
 */
export function parseContentAddress(text: string): ContentAddress | undefined {
  const match = /^(text:|fixed:r:|fixed:)((?:md5|sha1|sha256|sha512):.*)$/.exec(text);
  const [, prefix, hash] = match ?? [];
  if (prefix === undefined || hash === undefined) return undefined;
  const method = prefix === 'text:' ? 'text' : prefix === 'fixed:' ? 'flat' : 'nar';
  return { method, ...parseHash(hash) };
}

/** The form of {@link parseContentAddress} that Nix writes. */
export function formatContentAddress({ method, algorithm, digest }: ContentAddress): string {
  const prefix = { text: 'text:', flat: 'fixed:', nar: 'fixed:r:' }[method];
  return `${prefix}${algorithm}:${encodeNixBase32(digest)}`;
}

/**
 * The store path that content with this address gets.
 * Source of the formulas: Nix manual, "Store path calculation".
 *
 * @param self whether the content mentions its own path (possible with `nar` and SHA-256 only).
 * @throws {@link NixError} `NIX_CONTENT_ADDRESS_INVALID` when such content cannot have references.
 */
export function contentAddressedPath(
  ca: ContentAddress,
  name: string,
  { references = [], self = false }: { references?: readonly StorePath[]; self?: boolean } = {},
): StorePath {
  const hex = Buffer.from(ca.digest).toString('hex');
  const withReferences = (type: string) => [type, ...sortPaths(references), ...(self ? ['self'] : [])].join(':');
  if (ca.method === 'text' && ca.algorithm === 'sha256' && !self) return makePath(withReferences('text'), hex, name);
  if (ca.method === 'nar' && ca.algorithm === 'sha256') return makePath(withReferences('source'), hex, name);
  if (ca.method === 'text' || references.length > 0 || self) {
    throw new NixError(
      'NIX_CONTENT_ADDRESS_INVALID',
      `Cannot compute the store path of "${name}": content addressed by ${ca.method} and ${ca.algorithm} has no such references`,
    );
  }
  const inner = `fixed:out:${ca.method === 'nar' ? 'r:' : ''}${ca.algorithm}:${hex}:`;
  return makePath('output:out', sha256(inner).toString('hex'), name);
}

/**
 * The address that by itself proves what the content of `info` must be, or undefined when a signature is needed:
 * no address, one that belongs to another path, a broken hash function (MD5, SHA-1), a form whose content cannot be checked
 * on import (self references, a NAR under another hash), or one that contradicts the NAR hash.
 */
export function provingContentAddress(info: PathInfo): ContentAddress | undefined {
  const ca = info.ca === undefined ? undefined : parseKnown(info.ca);
  const self = info.references.includes(info.storePath);
  if (ca === undefined || self || (ca.algorithm !== 'sha256' && ca.algorithm !== 'sha512')) return undefined;
  if (ca.method !== 'flat' && ca.algorithm !== 'sha256') return undefined;
  if (ca.method === 'flat' && info.references.length > 0) return undefined;
  if (ca.method === 'nar' && narHashOf(ca.digest) !== info.narHash) return undefined;
  const path = contentAddressedPath(ca, storePathName(info.storePath), { references: info.references });
  return path === info.storePath ? ca : undefined;
}

function parseKnown(text: string): ContentAddress | undefined {
  try {
    return parseContentAddress(text);
  } catch (error) {
    if (error instanceof NixError) return undefined;
    throw error;
  }
}

function makePath(type: string, hexDigest: string, name: string): StorePath {
  const digest = sha256(`${type}:sha256:${hexDigest}:${STORE_DIR}:${name}`);
  const folded = new Uint8Array(20);
  for (const [at, byte] of digest.entries()) folded[at % 20] = (folded[at % 20] ?? 0) ^ byte;
  return storePathFromBaseName(`${encodeNixBase32(folded)}-${name}`);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
