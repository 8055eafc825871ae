import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** A definition that no node would accept: its name or version. */
  NEXLET_DEFINITION_INVALID: 'usage',
  /** No NATS server of the connection data answers. */
  NEXLET_NATS_UNREACHABLE: 'unreachable',
  /** The NATS server refuses the connection data, or denies a nexlet its requests. */
  NEXLET_NATS_REFUSED: 'refused',
  /** The node does not answer the registration. */
  NEXLET_NODE_UNREACHABLE: 'unreachable',
  /** The node refuses the registration. */
  NEXLET_REGISTRATION_REFUSED: 'refused',
  /** The nexlet ended before the NATS server had confirmed what it published. */
  NEXLET_FEED_CLOSED: 'unreachable',
  /** The node is gone, or has no place for the nexlet any more. */
  NEXLET_NODE_GONE: 'unreachable',
  /** The variables of a local nexlet are not set. */
  NEXLET_ENVIRONMENT_INVALID: 'usage',
  /** A trigger whose subject or name cannot be one, or whose workload may not subscribe to it. */
  NEXLET_TRIGGER_INVALID: 'usage',
  /** A trigger that the NATS server denies to the workload. */
  NEXLET_TRIGGER_REFUSED: 'refused',
  /** A start request whose `run_request` is not JSON. */
  NEXLET_REQUEST_INVALID: 'usage',
} as const satisfies Record<string, ErrorKind>;

export type NexletErrorCode = keyof typeof KINDS;

/** What keeps a nexlet from being at work. */
export class NexletError extends errorClass(KINDS) {}
