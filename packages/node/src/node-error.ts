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
  /** The NATS server denies the node's own user a subject that it must serve. */
  NODE_PERMISSION: 'refused',
  /** The NATS server refuses the credentials that the node mints for its nexlets. */
  NODE_CREDENTIALS_REFUSED: 'refused',
  /** An embedded nexlet does not start. */
  NODE_NEXLET_FAILED: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type NodeErrorCode = keyof typeof KINDS;

/** Why a node cannot be started. */
export class NodeError extends errorClass(KINDS) {}
