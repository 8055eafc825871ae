import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** A name or nexus that cannot be used, or a tag with the reserved prefix. */
  NODE_OPTION_INVALID: 'usage',
  /** The identity file is damaged. */
  NODE_IDENTITY_INVALID: 'failed',
  /** Another process runs a node with this identity. */
  NODE_ALREADY_RUNNING: 'refused',
  /** A signing key or account that is none. */
  NODE_MINTER_INVALID: 'usage',
  /** A seed that is not one of an operator. */
  NODE_REVOKER_INVALID: 'usage',
  /** The servers do not take the revocation of credentials. */
  NODE_REVOCATION_FAILED: 'failed',
  /** A workload whose name cannot be part of the subjects that it would be granted. */
  NODE_WORKLOAD_NAME_INVALID: 'usage',
  /** A nexlet of the configuration that is no program. */
  NODE_LOCAL_NEXLET_INVALID: 'usage',
  /** The stream of logs and events cannot be made. */
  NODE_STREAM_FAILED: 'failed',
  /** The NATS server denies the node's own user a subject that it must serve. */
  NODE_PERMISSION: 'refused',
  /** The NATS server refuses the credentials that the node mints for its nexlets. */
  NODE_CREDENTIALS_REFUSED: 'refused',
  /** What the node is to run cannot be read from JetStream, or not be written there. */
  NODE_STATE_UNAVAILABLE: 'unreachable',
  /** An embedded nexlet does not start. */
  NODE_NEXLET_FAILED: 'failed',
  /** The address at which metrics are to be served is taken, or none of this machine. */
  NODE_METRICS_FAILED: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type NodeErrorCode = keyof typeof KINDS;

/** Why a node cannot be started. */
export class NodeError extends errorClass(KINDS) {}
