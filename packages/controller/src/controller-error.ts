import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** The NATS server, or the account, has no JetStream. */
  CONTROLLER_NO_JETSTREAM: 'unreachable',
  /** JetStream does not answer. */
  CONTROLLER_STORE_UNREACHABLE: 'unreachable',
  /** The NATS server denies a bucket to this user. */
  CONTROLLER_PERMISSION: 'refused',
  /** No controller runs, so nobody would do what is asked for. */
  CONTROLLER_NONE: 'unreachable',
  /** A lease bucket in which no lease ever ends, or the like. */
  CONTROLLER_OPTION_INVALID: 'usage',
  /** Another controller leads, or may lead by now. */
  CONTROLLER_LEASE_LOST: 'failed',
  /** A deployment that makes no sense. */
  DEPLOYMENT_INVALID: 'usage',
  /** More than a NATS message can hold. */
  DEPLOYMENT_TOO_LARGE: 'usage',
  /** What is stored cannot be read. */
  DEPLOYMENT_UNREADABLE: 'failed',
  /** There is no deployment of that name. */
  DEPLOYMENT_NOT_FOUND: 'not-found',
  /** The deployment has no such revision. */
  DEPLOYMENT_REVISION_NOT_FOUND: 'not-found',
  /** Others changed it again and again meanwhile. */
  DEPLOYMENT_CONFLICT: 'failed',
  /** The environment of a deployment is sealed for others. */
  DEPLOYMENT_SEALED: 'refused',
} as const satisfies Record<string, ErrorKind>;

export type ControllerErrorCode = keyof typeof KINDS;

/** What goes wrong between those who describe deployments, their store and a controller. */
export class ControllerError extends errorClass(KINDS) {}
