import { createHash, type Hash } from 'node:crypto';
import {
  type ContentAddress,
  contentReferences,
  formatContentAddress,
  isNarHash,
  parseContentAddress,
} from '../formats/content-address.ts';
import { narHashOf } from '../formats/hash.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { storePathHash } from '../formats/store-path.ts';
import { NixError } from '../nix-error.ts';
import { ModuloHash } from './modulo-hash.ts';
import { NarParser } from './nar-parser.ts';

/** Compares content on its way with the content address of its path. */
export interface ContentCheck {
  /**
   * Takes the next piece of the uncompressed NAR.
   *
   * @throws {@link NixError} `NIX_NAR_INVALID`, for addresses that are the hash of a file.
   */
  update(chunk: Uint8Array): void;
  /**
   * Says, after the last piece, whether the content is the one of the address. That the NAR is the one of
   * `info.narHash` is for the caller to verify; this relies on it where the address is that very hash.
   *
   * @param origin where the NAR comes from, for the error.
   * @throws {@link NixError} `NIX_CONTENT_MISMATCH`.
   */
  verify(origin: string): void;
}

/**
 * A check of content against `info.ca`, in constant memory; undefined when there is no address, or one of an unknown form
 * (`fixed:git:…`), which only a signature can vouch for.
 *
 * - `text:…` and `fixed:<hash>`: the hash of the bytes of the one file, which must not be executable.
 * - `fixed:r:<hash>`: the hash of the NAR. If the path refers to itself, each mention of its hash part counts as
 *   zeros, and `|<offset>` of each mention follows or does not: the versions of Nix differ, so either is taken.
 *
 * @throws {@link NixError} `NIX_CONTENT_ADDRESS_INVALID` when the address is malformed.
 */
export function contentCheck(info: PathInfo): ContentCheck | undefined {
  const ca = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  if (ca === undefined) return undefined;
  const content = contentReferences(info);
  if (isNarHash(ca, content)) return checkNarHash(info, ca);
  if (ca.method !== 'nar') return checkFile(info, ca);
  return content.self ? checkModulo(info, ca) : checkNar(info, ca);
}

/** Of no cost: the NAR hash is verified anyway. */
function checkNarHash(info: PathInfo, ca: ContentAddress): ContentCheck {
  return {
    update: () => undefined,
    verify(origin) {
      if (narHashOf(ca.digest) !== info.narHash) throw mismatch(info, `a NAR with the hash ${info.narHash}`, origin);
    },
  };
}

function checkNar(info: PathInfo, ca: ContentAddress): ContentCheck {
  const hash = createHash(ca.algorithm);
  return {
    update: (chunk) => void hash.update(chunk),
    verify: (origin) => requireDigest(info, ca, { digests: [hash.digest()], origin }),
  };
}

function checkModulo(info: PathInfo, ca: ContentAddress): ContentCheck {
  const hash = new ModuloHash(ca.algorithm, storePathHash(info.storePath));
  return {
    update: (chunk) => hash.update(chunk),
    verify: (origin) => requireDigest(info, ca, { digests: hash.digests(), origin }),
  };
}

function checkFile(info: PathInfo, ca: ContentAddress): ContentCheck {
  const hash = createHash(ca.algorithm);
  let found = 'nothing';
  const parser = plainFileParser(info, hash, (what) => {
    // What counts is the root, not what is below it.
    if (found === 'nothing') found = what;
  });
  return {
    update(chunk) {
      // Once it is something else, its hash no longer matters.
      if (found === 'nothing' || found === 'a file') parser.write(chunk);
    },
    verify(origin) {
      if (found !== 'a file') throw mismatch(info, found, origin);
      requireDigest(info, ca, { digests: [hash.digest()], origin });
    },
  };
}

function plainFileParser(info: PathInfo, hash: Hash, is: (what: string) => void): NarParser {
  return new NarParser(
    {
      directory: () => is('a directory'),
      directoryEnd: () => undefined,
      symlink: () => is('a symbolic link'),
      file: (_, { executable }) => is(executable ? 'an executable file' : 'a file'),
      data: (bytes) => void hash.update(bytes),
      fileEnd: () => undefined,
    },
    { maxSize: info.narSize, origin: info.storePath },
  );
}

function requireDigest(
  info: PathInfo,
  ca: ContentAddress,
  { digests, origin }: { digests: readonly Buffer[]; origin: string },
): void {
  if (digests.some((digest) => digest.equals(ca.digest))) return;
  const found = digests.map((digest) => formatContentAddress({ ...ca, digest })).join(' or ');
  throw mismatch(info, found, origin);
}

function mismatch(info: PathInfo, found: string, origin: string): NixError {
  return new NixError(
    'NIX_CONTENT_MISMATCH',
    `Cannot import "${info.storePath}" from "${origin}": its content is ${found}, expected ${info.ca}`,
    { hint: 'The source is damaged: copy the path there again, or take it from another one' },
  );
}
