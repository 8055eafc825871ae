import { NixError } from '../nix-error.ts';
import { decodeNixBase32, encodeNixBase32, nixBase32Length } from './nixbase32.ts';
import { quoteText } from './quote-text.ts';

const DIGEST_SIZES = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;

/** The hash functions of Nix. MD5 and SHA-1 are broken: they name content, they prove nothing about it. */
export type HashAlgorithm = keyof typeof DIGEST_SIZES;

/** A digest and how it was made. `digest` has 16, 20, 32 or 64 bytes: those of its algorithm. */
export interface Hash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Uint8Array;
}

/** How a hash is written: `<algorithm>:<digest in that base>`, or for `sri` `<algorithm>-<base64>`. */
export type HashFormat = 'base16' | 'nixbase32' | 'base64' | 'sri';

declare const narHashBrand: unique symbol;

/** The SHA-256 of an uncompressed NAR in Nix's canonical form, `sha256:<52 symbols of nixbase32>`. */
export type NarHash = string & { readonly [narHashBrand]: true };

/**
 * Any hash that Nix writes: `<algorithm>:<base16|nixbase32|base64>`, told apart by length, or SRI `<algorithm>-<base64>`.
 *
 * @throws {@link NixError} `NIX_HASH_INVALID`, which says the position and the symbol that is wrong.
 */
export function parseHash(text: string): Hash {
  const separator = /[:-]/.exec(text);
  if (separator === null) throw invalid(text, 'it has no algorithm, expected something like sha256:<digest>');
  const algorithm = text.slice(0, separator.index);
  if (!isHashAlgorithm(algorithm)) {
    const known = Object.keys(DIGEST_SIZES).join(', ');
    throw invalid(text, `algorithm ${quoteText(algorithm)} is unknown, expected one of ${known}`, 0);
  }
  const start = separator.index + 1;
  const length = text.length - start;
  const size = DIGEST_SIZES[algorithm];
  if (length === base64Length(size)) return { algorithm, digest: readBase64(text, start, size) };
  const isSri = separator[0] === '-';
  if (!isSri && length === size * 2) return { algorithm, digest: readBase16(text, start) };
  if (!isSri && length === nixBase32Length(size)) return { algorithm, digest: readNixBase32(text, start) };
  const others = isSri ? '' : ` in base64, ${nixBase32Length(size)} in nixbase32 or ${size * 2} in base16`;
  throw invalid(text, `its ${algorithm} digest has ${length} symbols, expected ${base64Length(size)}${others}`, start);
}

/** The text of a hash that {@link parseHash} and Nix read. Nix itself writes `nixbase32` in narinfos and `sri` in JSON. */
export function formatHash({ algorithm, digest }: Hash, format: HashFormat): string {
  checkDigest(algorithm, digest);
  if (format === 'nixbase32') return `${algorithm}:${encodeNixBase32(digest)}`;
  const encoded = Buffer.from(digest).toString(format === 'base16' ? 'hex' : 'base64');
  return `${algorithm}${format === 'sri' ? '-' : ':'}${encoded}`;
}

/**
 * The canonical form of a NAR hash written as `sha256:` + nixbase32, base16 or base64, or as SRI `sha256-…`.
 *
 * @throws {@link NixError} `NIX_HASH_INVALID`, also for any other algorithm.
 */
export function parseNarHash(text: string): NarHash {
  const { algorithm, digest } = parseHash(text);
  if (algorithm !== 'sha256') {
    throw new NixError(
      'NIX_HASH_INVALID',
      `Cannot use ${quoteText(text)} as a NAR hash: it is ${algorithm}, expected sha256`,
      {
        offset: 0,
      },
    );
  }
  return narHashOf(digest);
}

/** The canonical form of a SHA-256 digest of 32 bytes. */
export function narHashOf(digest: Uint8Array): NarHash {
  return formatHash({ algorithm: 'sha256', digest }, 'nixbase32') as NarHash;
}

function readBase16(text: string, start: number): Uint8Array {
  requireSymbols(text, { start, foreign: /[^0-9a-fA-F]/, wanted: 'base16' });
  return new Uint8Array(Buffer.from(text.slice(start), 'hex'));
}

function readNixBase32(text: string, start: number): Uint8Array {
  requireSymbols(text, { start, foreign: /[^0-9a-df-np-sv-z]/, wanted: 'nixbase32' });
  try {
    return decodeNixBase32(text.slice(start));
  } catch (error) {
    if (!(error instanceof NixError)) throw error;
    // The length and the symbols are right: only the first symbol can carry too much.
    throw excessBits(text, start);
  }
}

function readBase64(text: string, start: number, size: number): Uint8Array {
  const padding = base64Length(size) - Math.ceil((size * 8) / 6);
  const end = text.length - padding;
  requireSymbols(text, { start, end, foreign: /[^A-Za-z0-9+/]/, wanted: 'base64' });
  requireSymbols(text, { start: end, foreign: /[^=]/, wanted: '"="' });
  const digest = Buffer.from(text.slice(start), 'base64');
  if (digest.toString('base64') === text.slice(start)) return new Uint8Array(digest);
  throw excessBits(text, end - 1);
}

function requireSymbols(
  text: string,
  { start, end = text.length, foreign, wanted }: { start: number; end?: number; foreign: RegExp; wanted: string },
): void {
  const at = text.slice(start, end).search(foreign);
  if (at === -1) return;
  const position = start + at;
  throw invalid(text, `position ${position} is ${JSON.stringify(text.charAt(position))}, expected ${wanted}`, position);
}

function excessBits(text: string, position: number): NixError {
  return invalid(text, `"${text.charAt(position)}" at position ${position} has bits beyond the last byte`, position);
}

function base64Length(size: number): number {
  return 4 * Math.ceil(size / 3);
}

function checkDigest(algorithm: HashAlgorithm, digest: Uint8Array): void {
  const size = DIGEST_SIZES[algorithm];
  if (digest.length === size) return;
  throw new TypeError(`A ${algorithm} digest has ${size} bytes, not ${digest.length}`);
}

function isHashAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(DIGEST_SIZES, text);
}

function invalid(text: string, why: string, offset?: number): NixError {
  const message = `Cannot parse the hash ${quoteText(text)}: ${why}`;
  return new NixError('NIX_HASH_INVALID', message, {
    offset,
    hint: 'A hash looks like sha256:<52 symbols of nixbase32> or sha256-<base64>',
  });
}
