import { errorClass, type ErrorKind, type NexErrorOptions } from '@nex-nix/errors';

const KINDS = {
  NIX_BASE32_INVALID: 'usage',
  NIX_HASH_INVALID: 'usage',
  NIX_STORE_PATH_INVALID: 'usage',
  NIX_KEY_INVALID: 'usage',
  NIX_CONTENT_ADDRESS_INVALID: 'usage',
  NIX_INSTALLABLE_INVALID: 'usage',
  NIX_CACHE_URL_INVALID: 'usage',
  NIX_NETRC_INVALID: 'usage',
  NIX_TREE_INVALID: 'usage',
  NIX_PATH_NOT_FOUND: 'not-found',
  NIX_COMMAND_MISSING: 'not-found',
  NIX_PATH_UNTRUSTED: 'refused',
  NIX_PUBLISH_REFUSED: 'refused',
  NIX_CACHE_REFUSED: 'refused',
  NIX_CACHE_UNREACHABLE: 'unreachable',
  NIX_CACHE_INVALID: 'failed',
  NIX_CACHE_WRITE_FAILED: 'failed',
  NIX_NARINFO_INVALID: 'failed',
  NIX_PATH_INFO_INVALID: 'failed',
  NIX_CLOSURE_CYCLE: 'failed',
  NIX_COMPRESSION_UNSUPPORTED: 'failed',
  NIX_COMPRESSION_INVALID: 'failed',
  NIX_LISTING_INVALID: 'failed',
  NIX_NAR_INVALID: 'failed',
  NIX_NAR_SIZE_MISMATCH: 'failed',
  NIX_NAR_HASH_MISMATCH: 'failed',
  NIX_CONTENT_MISMATCH: 'failed',
  NIX_REFERENCE_MISSING: 'failed',
  NIX_DUMP_FAILED: 'failed',
  NIX_UNPACK_FAILED: 'failed',
  NIX_COMMAND_FAILED: 'failed',
  NIX_BUILD_FAILED: 'failed',
  NIX_STORE_INVALID: 'failed',
  NIX_DATABASE_UNUSABLE: 'failed',
  NIX_STORE_BUSY: 'failed',
  NIX_STORE_FULL: 'failed',
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
