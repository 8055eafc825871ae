import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { NixError } from '../nix-error.ts';
import { fingerprint, type PathInfo } from './path-info.ts';

/** An Ed25519 key that signs path infos. The key material stays inside `key` and is never printed by accident. */
export interface SecretKey {
  readonly name: string;
  readonly key: KeyObject;
}

/** An Ed25519 key that verifies signatures made under the same name. */
export interface PublicKey {
  readonly name: string;
  readonly key: KeyObject;
}

const KEY_SIZE = 32;
const SIGNATURE_SIZE = 64;

/**
 * A new key; `name` usually looks like `cache.example.org-1`.
 *
 * @throws {@link NixError} `NIX_KEY_INVALID` when `name` is empty or has a colon or white space.
 */
export function generateSecretKey(name: string): SecretKey {
  checkName(name, 'secret key');
  return { name, key: generateKeyPairSync('ed25519').privateKey };
}

/**
 * A secret key as `nix key generate-secret` writes it: `<name>:<base64 of seed and public key>`.
 *
 * @throws {@link NixError} `NIX_KEY_INVALID`; the message never shows the key.
 */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = splitKey(text, KEY_SIZE * 2, 'secret key');
  const seed = bytes.subarray(0, KEY_SIZE).toString('base64url');
  const x = bytes.subarray(KEY_SIZE).toString('base64url');
  const key = createPrivateKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', d: seed, x } });
  if (createPublicKey(key).export({ format: 'jwk' }).x !== x) {
    throw new NixError(
      'NIX_KEY_INVALID',
      `Cannot read the secret key "${name}": its two halves do not belong together`,
    );
  }
  return { name, key };
}

/** The form that Nix reads as `secret-key-files`, without a line end; keep it from logs. */
export function formatSecretKey(secret: SecretKey): string {
  const { d = '', x = '' } = secret.key.export({ format: 'jwk' });
  const bytes = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')]);
  return `${secret.name}:${bytes.toString('base64')}`;
}

/**
 * A public key as in Nix's `trusted-public-keys`: `<name>:<base64 of 32 bytes>`.
 *
 * @throws {@link NixError} `NIX_KEY_INVALID`.
 */
export function parsePublicKey(text: string): PublicKey {
  const { name, bytes } = splitKey(text, KEY_SIZE, 'public key');
  const x = bytes.toString('base64url');
  return { name, key: createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } }) };
}

/** The key that verifies what `secret` signs. */
export function publicKeyOf(secret: SecretKey): PublicKey {
  return { name: secret.name, key: createPublicKey(secret.key) };
}

/** The form that Nix reads as `trusted-public-keys`. */
export function formatPublicKey(key: PublicKey): string {
  const { x = '' } = key.key.export({ format: 'jwk' });
  return `${key.name}:${Buffer.from(x, 'base64url').toString('base64')}`;
}

/** A signature for {@link PathInfo.signatures}, `<key name>:<base64>`; the same each time, and the one Nix makes. */
export function signPathInfo(info: PathInfo, key: SecretKey): string {
  return `${key.name}:${sign(null, Buffer.from(fingerprint(info)), key.key).toString('base64')}`;
}

/** Key name and bytes of a signature, or undefined when it is not of the form `<key name>:<base64 of 64 bytes>`. */
export function parseSignature(text: string): { keyName: string; bytes: Buffer } | undefined {
  const colon = text.indexOf(':');
  const bytes = strictBase64(text.slice(colon + 1));
  if (colon < 1 || bytes?.length !== SIGNATURE_SIZE) return undefined;
  return { keyName: text.slice(0, colon), bytes };
}

/** Signatures found good, by key: the same paths are looked at for every workload, and a signature takes a tenth of a millisecond. */
const verified = new WeakMap<KeyObject, Set<string>>();

const MAX_VERIFIED = 10_000;

/** The same by object, for those that cannot change: their fingerprint need not be made again. */
const verifiedObjects = new WeakMap<PathInfo, { key: KeyObject; name: string; signature: string }>();

/** Whether `signature` was made by `key`, under its name, for `info`. A malformed one was not. */
export function verifySignature(info: PathInfo, signature: string, key: PublicKey): boolean {
  const before = verifiedObjects.get(info);
  if (before?.signature === signature && before.key === key.key && before.name === key.name) return true;
  if (!isVerified(info, signature, key)) return false;
  if (Object.isFrozen(info) && Object.isFrozen(info.references)) {
    verifiedObjects.set(info, { key: key.key, name: key.name, signature });
  }
  return true;
}

function isVerified(info: PathInfo, signature: string, key: PublicKey): boolean {
  const parsed = parseSignature(signature);
  if (parsed?.keyName !== key.name) return false;
  const signed = fingerprint(info);
  const memo = `${hash('sha256', signed)} ${signature}`;
  const known = verified.get(key.key) ?? new Set<string>();
  if (known.has(memo)) return true;
  if (!verify(null, Buffer.from(signed), key.key, parsed.bytes)) return false;
  if (known.size >= MAX_VERIFIED) known.clear();
  verified.set(key.key, known.add(memo));
  return true;
}

function splitKey(text: string, size: number, what: string): { name: string; bytes: Buffer } {
  const trimmed = text.trim();
  const colon = trimmed.indexOf(':');
  const name = colon === -1 ? '' : trimmed.slice(0, colon);
  checkName(name, what);
  const bytes = strictBase64(trimmed.slice(colon + 1));
  if (bytes?.length !== size) {
    throw new NixError('NIX_KEY_INVALID', `Cannot read the ${what} "${name}": it is not the base64 of ${size} bytes`, {
      hint: 'Make a key with: nix key generate-secret --key-name NAME; its public part with: nix key convert-secret-to-public',
    });
  }
  return { name, bytes };
}

function checkName(name: string, what: string): void {
  if (name !== '' && !/[:\s]/.test(name)) return;
  throw new NixError('NIX_KEY_INVALID', `Cannot use the ${what}: its name is empty or has a colon or white space`, {
    hint: 'A key looks like NAME:BASE64',
  });
}

/** The bytes of canonical base64 with padding, or undefined. */
function strictBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}
