import type { NarHash } from './hash.ts';
import type { StorePath } from './store-path.ts';

/** What is known of a valid store path. */
export interface PathInfo {
  readonly storePath: StorePath;
  /** SHA-256 of the uncompressed NAR. */
  readonly narHash: NarHash;
  /** Size of the uncompressed NAR in bytes. */
  readonly narSize: number;
  /** Store paths that the content mentions, perhaps the path itself; sorted, each once. */
  readonly references: readonly StorePath[];
  /** Full store path of the derivation that made it. */
  readonly deriver?: string;
  /** `<key name>:<base64 of 64 bytes>`, over {@link fingerprint}. */
  readonly signatures: readonly string[];
  /** Content address, for example `fixed:r:sha256:<nixbase32>`. */
  readonly ca?: string;
}

/** A {@link PathInfo} with where a binary cache keeps the NAR. */
export interface NarInfo extends PathInfo {
  /** Where the NAR is, relative to the root of the cache. */
  readonly url: string;
  /** How the file at `url` is compressed: `none`, `xz`, `zstd`, `gzip`, `br`, `bzip2`, … */
  readonly compression: string;
  /** SHA-256 of the file at `url`; neither Nix nor this library verifies it. */
  readonly fileHash?: NarHash;
  /** Size of the file at `url` in bytes; not verified either. */
  readonly fileSize?: number;
  /** Fields that this version does not know, in order of appearance. */
  readonly extraFields?: readonly (readonly [key: string, value: string])[];
}

/**
 * The text that signatures of a path cover: path, NAR hash, NAR size and references.
 * Source of the format: Nix manual, "Signatures" of store objects.
 */
export function fingerprint(info: PathInfo): string {
  return `1;${info.storePath};${info.narHash};${info.narSize};${sortPaths(info.references).join(',')}`;
}

/** Paths in byte order, each once. */
export function sortPaths(paths: Iterable<StorePath>): StorePath[] {
  return [...new Set(paths)].sort();
}
