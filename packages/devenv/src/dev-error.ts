import { errorClass, type ErrorKind } from '@nex-nix/errors';

/** Every code that this package throws, and the kind of failure that it is. */
const KINDS = {
  DEVENV_NATS_SERVER_MISSING: 'not-found',
  DEVENV_NATS_SERVER_OLD: 'failed',
  /** nats-server ended at start, or did not become ready. */
  DEVENV_NATS_SERVER_FAILED: 'failed',
  DEVENV_PORT_TAKEN: 'failed',
  /** Other dev services hold the same data folder. */
  DEVENV_ALREADY_RUNNING: 'refused',
  /** Keys or JWTs in the data folder are damaged, missing or of another operator. */
  DEVENV_STORE_INVALID: 'failed',
  /** nats-server did not take an account. */
  DEVENV_PUSH_FAILED: 'failed',
  /** The key or the token of the cache in the data folder cannot be used. */
  DEVENV_CACHE_INVALID: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type DevErrorCode = keyof typeof KINDS;

/** The error of this package. */
export class DevError extends errorClass(KINDS) {}
