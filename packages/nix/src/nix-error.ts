import { errorClass, type ErrorKind, type NexErrorOptions } from '@nex-nix/errors';

const KINDS = {
  /** A text that is no number in Nix' base 32. */
  NIX_BASE32_INVALID: 'usage',
  /** A text that is no hash, or one of another algorithm than wanted. */
  NIX_HASH_INVALID: 'usage',
  /** A text that is no store path, or a name that none can have. */
  NIX_STORE_PATH_INVALID: 'usage',
  /** A key that cannot be read, or whose parts do not belong together. */
  NIX_KEY_INVALID: 'usage',
  /** A content address that cannot be read, or that no store path can have. */
  NIX_CONTENT_ADDRESS_INVALID: 'usage',
  /** What was named is no store path, link, flake reference or executable file. */
  NIX_INSTALLABLE_INVALID: 'usage',
  /** The URL of a binary cache that cannot be opened. */
  NIX_CACHE_URL_INVALID: 'usage',
  /** A netrc file that cannot be read. */
  NIX_NETRC_INVALID: 'usage',
  /** A tree of files of which no NAR can be made: a socket, a device, a name that NARs do not have. */
  NIX_TREE_INVALID: 'usage',
  /** A store path that is not where it was looked for, or a file that is not there. */
  NIX_PATH_NOT_FOUND: 'not-found',
  /** The command "nix" is not installed. */
  NIX_COMMAND_MISSING: 'not-found',
  /** No trusted key has signed the path, and its content does not prove it. */
  NIX_PATH_UNTRUSTED: 'refused',
  /** A file or folder that is not to be published as it is. */
  NIX_PUBLISH_REFUSED: 'refused',
  /** A binary cache refuses access. */
  NIX_CACHE_REFUSED: 'refused',
  /** A binary cache does not answer. */
  NIX_CACHE_UNREACHABLE: 'unreachable',
  /** What answers is no binary cache, or one of another store folder. */
  NIX_CACHE_INVALID: 'failed',
  /** A binary cache in a folder cannot be written. */
  NIX_CACHE_WRITE_FAILED: 'failed',
  /** A narinfo that cannot be read or written. */
  NIX_NARINFO_INVALID: 'failed',
  /** What a store says of a path cannot be read, or is of another path. */
  NIX_PATH_INFO_INVALID: 'failed',
  /** Paths that refer to each other in a circle. */
  NIX_CLOSURE_CYCLE: 'failed',
  /** A compression that is not known here, or whose program is not installed. */
  NIX_COMPRESSION_UNSUPPORTED: 'failed',
  /** Compressed data that is damaged. */
  NIX_COMPRESSION_INVALID: 'failed',
  /** The list of the files in a NAR cannot be read or made. */
  NIX_LISTING_INVALID: 'failed',
  /** A NAR that is damaged, or not in the one form that NARs have. */
  NIX_NAR_INVALID: 'failed',
  /** A NAR is longer or shorter than it should be. */
  NIX_NAR_SIZE_MISMATCH: 'failed',
  /** A NAR is not the one that was signed. */
  NIX_NAR_HASH_MISMATCH: 'failed',
  /** A path that is named by its content has other content. */
  NIX_CONTENT_MISMATCH: 'failed',
  /** A path was to be added before a path that it refers to. */
  NIX_REFERENCE_MISSING: 'failed',
  /** Files cannot be read into a NAR. */
  NIX_DUMP_FAILED: 'failed',
  /** A NAR cannot be written to the disk. */
  NIX_UNPACK_FAILED: 'failed',
  /** The command "nix" has failed. */
  NIX_COMMAND_FAILED: 'failed',
  /** A flake cannot be built. */
  NIX_BUILD_FAILED: 'failed',
  /** A store of this project that cannot be made or opened. */
  NIX_STORE_INVALID: 'failed',
  /** The database of the machine's Nix store cannot be read. */
  NIX_DATABASE_UNUSABLE: 'failed',
  /** Another process holds the database of the store. */
  NIX_STORE_BUSY: 'failed',
  /** The disk of the store is full. */
  NIX_STORE_FULL: 'failed',
  /** The store is closed, as the process ends. */
  NIX_STORE_CLOSED: 'failed',
} as const satisfies Record<string, ErrorKind>;

/** Codes of the errors of this package. */
export type NixErrorCode = keyof typeof KINDS;

/** What an error says besides its code and message. */
export interface NixErrorOptions extends NexErrorOptions {
  /** Where the fault is: in bytes from the start of a NAR, in characters from the start of a text. */
  offset?: number | undefined;
}

/** Every error that this package throws on purpose. */
export class NixError extends errorClass(KINDS) {
  /** Where the fault is: in bytes from the start of a NAR, in characters from the start of a text; undefined when it has no place. */
  readonly offset: number | undefined;

  constructor(code: NixErrorCode, message: string, options: NixErrorOptions = {}) {
    super(code, message, options);
    this.offset = options.offset;
  }
}

/** The `code` of a system error (`ENOENT`, …), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
