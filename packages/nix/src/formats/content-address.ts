import { createHash } from 'node:crypto';
import { formatHash, type Hash, narHashOf, parseHash } from './hash.ts';
import { NixError } from '../nix-error.ts';
import { encodeNixBase32 } from './nixbase32.ts';
import { type PathInfo, sortPaths } from './path-info.ts';
import { quoteText } from './quote-text.ts';
import { STORE_DIR, type StorePath, storePathFromBaseName, storePathName } from './store-path.ts';

/** What the hash of a content address is taken of: the file of a text that may have references, a file, or the NAR. */
export type ContentAddressMethod = 'text' | 'flat' | 'nar';

/** The hash of a store path's content, and what it is taken of. */
export interface ContentAddress extends Hash {
  readonly method: ContentAddressMethod;
}

/** What the content of a path mentions. */
export interface ContentReferences {
  /** Other store paths, in any order. */
  references?: readonly StorePath[];
  /** Whether it mentions its own path; the hash of its address is then taken as {@link contentCheck} says. */
  self?: boolean;
}

/**
 * Parses the `CA` of a narinfo: `text:<hash>`, `fixed:<hash>` (flat) or `fixed:r:<hash>` (NAR).
 * Undefined for the forms this library does not know (`fixed:git:…`): those paths need a signature.
 *
 * @throws {@link NixError} `NIX_CONTENT_ADDRESS_INVALID` when the form is known and its hash is malformed.
 */
export function parseContentAddress(text: string): ContentAddress | undefined {
  const match = /^(text:|fixed:r:|fixed:)((?:md5|sha1|sha256|sha512)[:-].*)$/s.exec(text);
  const [, prefix, hash] = match ?? [];
  if (prefix === undefined || hash === undefined) return undefined;
  const method = prefix === 'text:' ? 'text' : prefix === 'fixed:' ? 'flat' : 'nar';
  try {
    return { method, ...parseHash(hash) };
  } catch (error) {
    if (!(error instanceof NixError)) throw error;
    throw new NixError(
      'NIX_CONTENT_ADDRESS_INVALID',
      `Cannot parse the content address ${quoteText(text)}: ${error.message}`,
      {
        offset: prefix.length + (error.offset ?? 0),
        cause: error,
      },
    );
  }
}

/** The form of {@link parseContentAddress} that Nix writes. */
export function formatContentAddress(ca: ContentAddress): string {
  const prefix = { text: 'text:', flat: 'fixed:', nar: 'fixed:r:' }[ca.method];
  return `${prefix}${formatHash(ca, 'nixbase32')}`;
}

/**
 * The store path that content with this address gets, the same that Nix gives it:
 *
 * | made by                                                        | `method` | `algorithm` | references   |
 * | -------------------------------------------------------------- | -------- | ----------- | ------------ |
 * | `nix store add`, `add-path`; `nix-store --add`; `builtins.path` | `nar`    | SHA-256     | none         |
 * | `nix store add-file`, `add --mode flat`                        | `flat`   | SHA-256     | none         |
 * | `nix-store --add-fixed`                                        | `flat`   | any         | none         |
 * | `nix-store --add-fixed --recursive`                            | `nar`    | any         | none         |
 * | `builtins.toFile`, derivations                                 | `text`   | SHA-256     | others       |
 * | `nix store make-content-addressed`                             | `nar`    | SHA-256     | others, self |
 *
 * Source of the formulas: Nix manual, "Store path calculation".
 *
 * @throws {@link NixError} `NIX_CONTENT_ADDRESS_INVALID` when such content cannot have such references,
 *   `NIX_STORE_PATH_INVALID` when `name` cannot be a name.
 */
export function contentAddressedPath(ca: ContentAddress, name: string, content: ContentReferences = {}): StorePath {
  const { references = [], self = false } = content;
  if (!canRefer(ca, { references, self })) throw noSuchContent(ca, name, { references, self });
  const hex = Buffer.from(ca.digest).toString('hex');
  const withReferences = (type: string) => [type, ...sortPaths(references), ...(self ? ['self'] : [])].join(':');
  if (ca.method === 'text') return makePath(withReferences('text'), hex, name);
  if (ca.method === 'nar' && ca.algorithm === 'sha256') return makePath(withReferences('source'), hex, name);
  const inner = `fixed:out:${ca.method === 'nar' ? 'r:' : ''}${ca.algorithm}:${hex}:`;
  return makePath('output:out', sha256(inner).toString('hex'), name);
}

/**
 * The address that by itself proves what the content of `info` must be, or undefined when a signature is needed:
 * no address, one of an unknown form, one that belongs to another path, one that contradicts the NAR hash, or a broken hash
 * function (MD5, SHA-1). The proof holds for content that {@link contentCheck} has let pass.
 */
export function provingContentAddress(info: PathInfo): ContentAddress | undefined {
  const ca = info.ca === undefined ? undefined : parseKnown(info.ca);
  if (ca === undefined || (ca.algorithm !== 'sha256' && ca.algorithm !== 'sha512')) return undefined;
  const content = contentReferences(info);
  if (!canRefer(ca, content)) return undefined;
  if (isNarHash(ca, content) && narHashOf(ca.digest) !== info.narHash) return undefined;
  return contentAddressedPath(ca, storePathName(info.storePath), content) === info.storePath ? ca : undefined;
}

/** The references of a path, its own told apart from the others. */
export function contentReferences(info: PathInfo): Required<ContentReferences> {
  const references = info.references.filter((path) => path !== info.storePath);
  return { references, self: references.length < info.references.length };
}

/** Whether the digest of `ca` is that of {@link PathInfo.narHash}. */
export function isNarHash(ca: ContentAddress, { self = false }: ContentReferences): boolean {
  return ca.method === 'nar' && ca.algorithm === 'sha256' && !self;
}

function canRefer({ method, algorithm }: ContentAddress, { references, self }: Required<ContentReferences>): boolean {
  if (method === 'text') return algorithm === 'sha256' && !self;
  return (method === 'nar' && algorithm === 'sha256') || (references.length === 0 && !self);
}

function noSuchContent(
  { method, algorithm }: ContentAddress,
  name: string,
  content: Required<ContentReferences>,
): NixError {
  const [refers, expected] = content.self
    ? ['it refers to itself, and ', 'nar']
    : content.references.length > 0
      ? ['it refers to other paths, and ', 'nar or text']
      : ['', method];
  return new NixError(
    'NIX_CONTENT_ADDRESS_INVALID',
    `Cannot compute the store path of "${name}": ${refers}its address is ${method} with ${algorithm}, ` +
      `expected ${expected} with sha256`,
  );
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
