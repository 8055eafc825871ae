import { JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/nats-core';
import { isNexError } from '@nex-nix/errors';
import { ControllerError } from '../controller-error.ts';

/** Error codes of JetStream, as nats-server's own table names them (server/errors.json). */
const JS = {
  noMessageFound: 10037,
  notEnabledForAccount: 10039,
  sequenceNotFound: 10043,
  streamNameInUse: 10058,
  streamNotFound: 10059,
  wrongLastSequence: 10071,
  notEnabled: 10076,
  wrongLastSequenceUnknown: 10164,
} as const;

function hasCode(error: unknown, ...codes: number[]): boolean {
  return error instanceof JetStreamApiError && codes.includes(error.code);
}

export function isNoStream(error: unknown): boolean {
  return hasCode(error, JS.streamNotFound);
}

/** Nothing has that sequence: nats-server 2.9 says so in words only. */
export function isNoMessage(error: unknown): boolean {
  if (hasCode(error, JS.noMessageFound, JS.sequenceNotFound)) return true;
  return error instanceof JetStreamApiError && /no message found|not found/.test(error.message);
}

export function isStreamNameInUse(error: unknown): boolean {
  return hasCode(error, JS.streamNameInUse);
}

/** A compare-and-set was refused: the subject holds another message. */
export function isWrongRevision(error: unknown): boolean {
  return hasCode(error, JS.wrongLastSequence, JS.wrongLastSequenceUnknown);
}

/**
 * Whether nobody takes the message: no JetStream, or no such bucket. The client library has an error of its own for the
 * first, and does not export its class.
 */
export function isUnserved(error: unknown): boolean {
  if (error instanceof errors.NoRespondersError) return true;
  return error instanceof Error && ['JetStreamNotEnabled', 'NoRespondersError'].includes(error.name);
}

/** Gives what goes wrong with JetStream a name of this package. */
export function storeError(error: unknown, what: string): unknown {
  if (isNexError(error)) return error;
  if (hasCode(error, JS.notEnabled, JS.notEnabledForAccount) || isUnserved(error)) {
    return new ControllerError('CONTROLLER_NO_JETSTREAM', `${what}: JetStream is off, or does not answer`, {
      cause: error,
      hint: 'Replicas are kept with JetStream: switch it on in the NATS server and for the account',
    });
  }
  const denied = error instanceof errors.RequestError && error.cause instanceof errors.PermissionViolationError;
  if (denied || error instanceof errors.PermissionViolationError) {
    return new ControllerError('CONTROLLER_PERMISSION', `${what}: the NATS server denies it to this user`, {
      cause: error,
      hint: 'Who keeps replicas must be allowed to publish to $KV.> and $JS.API.>',
    });
  }
  if (error instanceof Error && !(error instanceof TypeError)) {
    return new ControllerError('CONTROLLER_STORE_UNREACHABLE', `${what}: ${error.message}`, { cause: error });
  }
  return error;
}
