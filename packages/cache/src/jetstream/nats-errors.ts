import { JetStreamApiError, JetStreamError } from '@nats-io/jetstream';
import {
  ClosedConnectionError,
  ConnectionError,
  DrainingConnectionError,
  type NatsConnection,
  NoRespondersError,
  PermissionViolationError,
  RequestError,
  TimeoutError,
} from '@nats-io/nats-core';
import { isNexError } from '@nex-nix/errors';
import { CacheError } from '../errors.ts';

/**
 * The JetStream error codes that mean something here, as nats-server's own error table names them
 * (server/errors.json).
 */
const JS = {
  accountResourcesExceeded: 10002,
  clusterNotAvailable: 10008,
  clusterNotLeader: 10009,
  insufficientResources: 10023,
  memoryExceeded: 10028,
  noAccount: 10035,
  noMessageFound: 10037,
  notEnabledForAccount: 10039,
  storageExceeded: 10047,
  streamNameInUse: 10058,
  streamNotFound: 10059,
  wrongLastSequence: 10071,
  notEnabled: 10076,
  storeFailed: 10077,
  streamOffline: 10118,
  noLimits: 10120,
  wrongLastSequenceUnknown: 10164,
} as const;

const TRANSIENT: ReadonlySet<number> = new Set([
  JS.clusterNotAvailable,
  JS.clusterNotLeader,
  JS.streamOffline,
  JS.wrongLastSequenceUnknown,
]);

/** Whether a publish failed because its subject holds a message already. */
export function isAlreadyStored(error: unknown): boolean {
  if (!(error instanceof JetStreamApiError)) return false;
  if (error.code === JS.wrongLastSequence) return true;
  return error.code === JS.storeFailed && error.message.includes('per subject');
}

/** Whether a read failed because there is no message for its subject. */
export function isNoMessage(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === JS.noMessageFound;
}

/** Whether a stream could not be read because it does not exist. */
export function isNoStream(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === JS.streamNotFound;
}

/** Whether a stream could not be made because somebody else made it, with other settings. */
export function isStreamNameInUse(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === JS.streamNameInUse;
}

/** Whether a request may work when it is sent again: the other side is restarting, moving or electing a leader. */
export function isTransient(error: unknown): boolean {
  if (error instanceof JetStreamApiError) return TRANSIENT.has(error.code);
  if (isNotEnabled(error)) return isNoResponders(error.cause);
  return error instanceof TimeoutError || isNoResponders(error);
}

/**
 * Whether JetStream does not answer, or says that it is off: the client library has one error for both, and does not
 * export its class.
 */
export function isNotEnabled(error: unknown): error is Error {
  return error instanceof Error && error.name === 'JetStreamNotEnabled';
}

/** Whether nobody listens to the subject of a request. */
export function isNoResponders(error: unknown): boolean {
  return error instanceof NoRespondersError || (error instanceof RequestError && error.isNoResponders());
}

/** Where a connection leads to, for messages: `nats://host:port` without credentials. */
export function serverName(nc: NatsConnection): string {
  return `nats://${nc.getServer()}`;
}

/**
 * What to throw for a failure of NATS or JetStream. Errors of this project and aborts pass unchanged, and so does what is
 * not known here, which is a bug.
 * @param action - what was tried, to follow "Cannot": `store chunk "…"`.
 */
export function toCacheError(error: unknown, action: string, nc: NatsConnection): unknown {
  if (isNexError(error)) return error;
  // A service has said why it cannot answer now.
  if (error instanceof NoRespondersError && isNexError(error.cause)) return error.cause;
  const server = serverName(nc);
  if (error instanceof JetStreamApiError) return jetStreamError(error, action, server);
  const violation = permissionViolation(error);
  if (violation !== undefined) {
    return new CacheError('CACHE_PERMISSION_DENIED', `Cannot ${action}: NATS refuses it (${violation.message})`, {
      cause: error,
      hint: 'Use a NATS user that may do it: see "Permissions" in the README of @nex-nix/cache',
    });
  }
  const why = unreachableBecause(error, server);
  if (why !== undefined) {
    return new CacheError('CACHE_UNAVAILABLE', `Cannot ${action}: ${why}`, {
      cause: error,
      hint: 'Try again when NATS and the cache are up: what was done is kept, only the rest is done again',
    });
  }
  if (error instanceof JetStreamError) return jetStreamFailed(error, action);
  return error;
}

/** That there is no JetStream at all: for who opens the cache, and knows that nothing of JetStream answers. */
export function noJetStream(error: unknown, action: string, nc: NatsConnection): CacheError {
  return noJetStreamOn(serverName(nc), action, error);
}

function noJetStreamOn(server: string, action: string, cause: unknown): CacheError {
  return new CacheError('CACHE_NO_JETSTREAM', `Cannot ${action}: ${server} has no JetStream for this account`, {
    cause,
    hint: 'Enable JetStream on the server (nats-server -js) and for the account',
  });
}

function jetStreamError(error: JetStreamApiError, action: string, server: string): CacheError {
  switch (error.code) {
    case JS.notEnabled:
    case JS.notEnabledForAccount:
    case JS.noAccount:
    case JS.noLimits:
      return noJetStreamOn(server, action, error);
    case JS.accountResourcesExceeded:
    case JS.insufficientResources:
    case JS.memoryExceeded:
    case JS.storageExceeded:
    case JS.storeFailed:
      return new CacheError('CACHE_STORAGE_FULL', `Cannot ${action}: JetStream has no room left (${error.message})`, {
        cause: error,
        hint: 'Raise max_bytes of the cache, the JetStream limits of the account, or those of the server',
      });
    case JS.clusterNotAvailable:
    case JS.clusterNotLeader:
    case JS.streamOffline:
      return new CacheError(
        'CACHE_UNAVAILABLE',
        `Cannot ${action}: JetStream on ${server} is not ready (${error.message})`,
        {
          cause: error,
          hint: 'Try again when the NATS cluster has a leader',
        },
      );
    case JS.streamNotFound:
      return new CacheError('CACHE_UNAVAILABLE', `Cannot ${action}: there is no cache on ${server}`, {
        cause: error,
        hint: 'Start a node, or a cache service, once: it creates the streams',
      });
    default:
      return jetStreamFailed(error, action);
  }
}

function jetStreamFailed(error: Error, action: string): CacheError {
  return new CacheError('CACHE_JETSTREAM_FAILED', `Cannot ${action}: JetStream says "${error.message}"`, {
    cause: error,
  });
}

/** nats-core hands the violation out as it is, or wrapped into the error of a request. */
function permissionViolation(error: unknown): Error | undefined {
  if (error instanceof PermissionViolationError) return error;
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof PermissionViolationError ? cause : undefined;
}

function unreachableBecause(error: unknown, server: string): string | undefined {
  if (error instanceof TimeoutError) return `${server} does not answer in time`;
  if (isNoResponders(error) || isNotEnabled(error)) return `nothing on ${server} answers`;
  const lost = [ClosedConnectionError, DrainingConnectionError, ConnectionError, RequestError];
  return lost.some((type) => error instanceof type) ? `the connection to ${server} is lost` : undefined;
}
