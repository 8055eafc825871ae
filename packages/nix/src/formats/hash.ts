import { NixError } from '../nix-error.ts';
import { decodeNixBase32, encodeNixBase32, nixBase32Length } from './nixbase32.ts';

const DIGEST_SIZES = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;

type HashAlgorithm = keyof typeof DIGEST_SIZES;

export interface Hash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Uint8Array;
}

declare const narHashBrand: unique symbol;

/** The SHA-256 of an uncompressed NAR in Nix's canonical form, `sha256:<52 symbols of nixbase32>`. */
export type NarHash = string & { readonly [narHashBrand]: true };

/**
 * Any hash that Nix writes: `<algorithm>:<base16|nixbase32|base64>`, told apart by length, or SRI `<algorithm>-<base64>`.
 *
 * @throws {@link NixError} `NIX_HASH_INVALID`.
 */
export function parseHash(text: string): Hash {
  const invalid = (why: string, cause?: unknown) =>
    new NixError('NIX_HASH_INVALID', `Cannot parse the hash "${text}": ${why}`, { cause });
  const separator = /[:-]/.exec(text);
  if (separator === null) throw invalid('it has no algorithm, expected something like sha256:<digest>');
  const algorithm = text.slice(0, separator.index);
  if (!isHashAlgorithm(algorithm)) throw invalid(`algorithm "${algorithm}" is unknown`);
  const encoded = text.slice(separator.index + 1);
  const size = DIGEST_SIZES[algorithm];
  const sri = separator[0] === '-';
  if (encoded.length === 4 * Math.ceil(size / 3)) {
    const digest = Buffer.from(encoded, 'base64');
    if (digest.length !== size || digest.toString('base64') !== encoded) throw invalid('its base64 is malformed');
    return { algorithm, digest };
  }
  if (!sri && encoded.length === size * 2) {
    if (!/^[0-9a-fA-F]*$/.test(encoded)) throw invalid('its base16 is malformed');
    return { algorithm, digest: Buffer.from(encoded, 'hex') };
  }
  if (!sri && encoded.length === nixBase32Length(size)) {
    try {
      return { algorithm, digest: decodeNixBase32(encoded) };
    } catch (error) {
      throw invalid('its nixbase32 is malformed', error);
    }
  }
  throw invalid(`a ${algorithm} digest does not have ${encoded.length} symbols`);
}

/**
 * The canonical form of a NAR hash written as `sha256:` + nixbase32, base16 or base64, or as SRI `sha256-…`.
 *
 * @throws {@link NixError} `NIX_HASH_INVALID`, also for any other algorithm.
 */
export function parseNarHash(text: string): NarHash {
  const { algorithm, digest } = parseHash(text);
  if (algorithm !== 'sha256') {
    throw new NixError('NIX_HASH_INVALID', `Cannot use "${text}" as a NAR hash: it is ${algorithm}, expected sha256`);
  }
  return narHashOf(digest);
}

/** The canonical form of a SHA-256 digest of 32 bytes. */
export function narHashOf(digest: Uint8Array): NarHash {
  if (digest.length !== DIGEST_SIZES.sha256) throw new TypeError(`A SHA-256 digest has 32 bytes, not ${digest.length}`);
  return `sha256:${encodeNixBase32(digest)}` as NarHash;
}

function isHashAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(DIGEST_SIZES, text);
}
