import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** A definition that no node would accept: its name or version. */
  NEXLET_DEFINITION_INVALID: 'usage',
  /** No NATS server of the connection data answers. */
  NEXLET_NATS_UNREACHABLE: 'unreachable',
  /** The NATS server refuses the connection data. */
  NEXLET_NATS_REFUSED: 'refused',
  /** The node does not answer the registration. */
  NEXLET_NODE_UNREACHABLE: 'unreachable',
  /** The node refuses the registration. */
  NEXLET_REGISTRATION_REFUSED: 'refused',
  /** A start request whose `run_request` is not JSON. */
  NEXLET_REQUEST_INVALID: 'usage',
} as const satisfies Record<string, ErrorKind>;

export type NexletErrorCode = keyof typeof KINDS;

/** Why a nexlet could not be started. */
export class NexletError extends errorClass(KINDS) {}
