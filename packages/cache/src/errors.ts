import { errorClass, type ErrorKind, type NexErrorOptions } from '@nex-nix/errors';

/** Every code of {@link CacheError} and the kind of failure it is. */
const CACHE_ERROR_KINDS = {
  /** The account has no JetStream, so nothing can be stored. */
  CACHE_NO_JETSTREAM: 'unreachable',
  /** No cache service, or no NATS server, answers. */
  CACHE_UNAVAILABLE: 'unreachable',
  /** NATS permissions forbid it. */
  CACHE_PERMISSION_DENIED: 'refused',
  /** The server's `max_payload` is too small for a chunk. */
  CACHE_PAYLOAD_LIMIT: 'failed',
  /** JetStream has no room left. */
  CACHE_STORAGE_FULL: 'failed',
  /** JetStream refused for a reason of its own. */
  CACHE_JETSTREAM_FAILED: 'failed',
  /** The path was never pushed. */
  CACHE_PATH_NOT_FOUND: 'not-found',
  /** The bytes stored under a chunk's name are not that chunk. */
  CACHE_CHUNK_CORRUPT: 'failed',
  /** A manifest names a chunk that is not stored. */
  CACHE_CHUNK_MISSING: 'failed',
  /** A manifest cannot be read, or is not the one of its path. */
  CACHE_MANIFEST_INVALID: 'failed',
  /** A stored or sent narinfo cannot be read, or is of another path. */
  CACHE_NARINFO_INVALID: 'failed',
  /** A NAR is not what its path info says. */
  CACHE_NAR_MISMATCH: 'refused',
  /** The manifest of a NAR would not fit into one message. */
  CACHE_NAR_TOO_LARGE: 'refused',
  /** A path was to be committed before a path that it refers to. */
  CACHE_REFERENCE_MISSING: 'refused',
  /** The cache holds the path with other content. */
  CACHE_PATH_CONFLICT: 'refused',
  /** A path has, or would get, more signatures than anybody needs. */
  CACHE_SIGNATURES_LIMIT: 'refused',
  /** A file of a NAR cannot be compressed, or is not compressed, in the way its name says. */
  CACHE_COMPRESSION_FAILED: 'refused',
  /** The HTTP door cannot listen where it should. */
  CACHE_LISTEN_FAILED: 'failed',
  /** The certificate of the HTTP door, or its key, cannot be used. */
  CACHE_TLS_INVALID: 'usage',
  /** What is to be removed from the cache is pinned, or other paths refer to it. */
  CACHE_PATH_IN_USE: 'refused',
  /** A name cannot be the name of a pin. */
  CACHE_PIN_NAME_INVALID: 'usage',
  /** A pin was changed by others again and again. */
  CACHE_PIN_CONTENDED: 'failed',
  /** Another collection of garbage is under way. */
  CACHE_COLLECTION_RUNNING: 'refused',
  /** A request or an answer that makes no sense, most likely of another version. */
  CACHE_PROTOCOL: 'failed',
  /** An unforeseen failure inside the cache service. */
  CACHE_SERVICE_FAILED: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type CacheErrorCode = keyof typeof CACHE_ERROR_KINDS;

export interface CacheErrorOptions extends NexErrorOptions {
  /** The store path that it is about. */
  storePath?: string | undefined;
  /** The chunk that it is about. */
  chunk?: string | undefined;
}

/** Every failure that this package foresees. */
export class CacheError extends errorClass(CACHE_ERROR_KINDS) {
  readonly storePath: string | undefined;
  readonly chunk: string | undefined;

  constructor(code: CacheErrorCode, message: string, options: CacheErrorOptions = {}) {
    super(code, message, options);
    this.storePath = options.storePath;
    this.chunk = options.chunk;
  }
}

/** What to do when something of a path was lost or damaged. */
export const REPAIR_HINT = 'On a machine that has the path: nex cache verify --repair';

/** Whether `code` is one of {@link CacheError}. */
export function isCacheErrorCode(code: unknown): code is CacheErrorCode {
  return typeof code === 'string' && Object.hasOwn(CACHE_ERROR_KINDS, code);
}
