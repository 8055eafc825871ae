import { errorClass, type ErrorKind } from '@nex-nix/errors';

/** Every code that this package throws, and the kind of failure that it is. */
const KINDS = {
  /** nats-server is not installed. */
  DEVENV_NATS_SERVER_MISSING: 'not-found',
  /** nats-server is older than what is needed. */
  DEVENV_NATS_SERVER_OLD: 'failed',
  /** nats-server ended at start, or did not become ready. */
  DEVENV_NATS_SERVER_FAILED: 'failed',
  /** A port that was asked for is in use. */
  DEVENV_PORT_TAKEN: 'failed',
  /** Other dev services hold the same data folder. */
  DEVENV_ALREADY_RUNNING: 'refused',
  /** Keys or JWTs in the data folder are damaged, missing or of another operator. */
  DEVENV_STORE_INVALID: 'failed',
  /** There is no service of that name. */
  DEVENV_SERVICE_UNKNOWN: 'not-found',
  /** A service ended at its start, or did not become ready. */
  DEVENV_SERVICE_FAILED: 'failed',
  /** No dev services run on the data folder. */
  DEVENV_NOT_RUNNING: 'not-found',
  /** They ended while they were asked something. */
  DEVENV_GONE: 'unreachable',
  /** What runs on the data folder, or asks it, is of another version. */
  DEVENV_VERSION_DIFFERS: 'failed',
  /** There is something in the data folder that is not to be removed with it. */
  DEVENV_WIPE_REFUSED: 'refused',
  /** nats-server did not take an account. */
  DEVENV_PUSH_FAILED: 'failed',
  /** The key or the token of the cache in the data folder cannot be used. */
  DEVENV_CACHE_INVALID: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type DevErrorCode = keyof typeof KINDS;

/** The error of this package. */
export class DevError extends errorClass(KINDS) {}
