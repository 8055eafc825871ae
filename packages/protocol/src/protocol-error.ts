import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** A namespace, id or type that cannot be a token of a subject. */
  NEX_SUBJECT_INVALID: 'usage',
  /** A message that cannot be read or written: not JSON, a required field absent, a field of the wrong type. */
  NEX_MESSAGE_INVALID: 'failed',
  /** A Go duration or time that cannot be parsed. */
  NEX_TIME_INVALID: 'usage',
  /** A nexlet's start request schema that cannot be used. */
  NEX_SCHEMA_INVALID: 'failed',
  /** A start request that the schema of every bidding nexlet rejects. */
  NEX_REQUEST_INVALID: 'usage',
  /** A curve key that is none, or a sealed environment that cannot be opened. */
  NEX_SEAL_INVALID: 'refused',
  /** An environment that would have to be sent in clear, which is not allowed. */
  NEX_ENVIRONMENT_IN_CLEAR: 'refused',
  /** Nobody serves the control subjects at all. */
  NEX_NO_NODES: 'unreachable',
  /** Nodes are there, none of them can run the workload. */
  NEX_NO_BIDS: 'not-found',
  /** Somebody listens but does not answer in time. */
  NEX_NO_ANSWER: 'unreachable',
  /** No node of that id answers. */
  NEX_NODE_NOT_FOUND: 'not-found',
  /** No node has that workload. */
  NEX_WORKLOAD_NOT_FOUND: 'not-found',
  /** The same id runs in several namespaces. */
  NEX_WORKLOAD_AMBIGUOUS: 'usage',
  /** The NATS server denies a subject to this user. */
  NEX_PERMISSION: 'refused',
  /** The NATS connection is closed. */
  NEX_CONNECTION_CLOSED: 'unreachable',
  /** The reply of a node or nexlet says that the request makes no sense. */
  NEX_PEER_BAD_REQUEST: 'usage',
  /** The reply of a node or nexlet says that it may not or will not. */
  NEX_PEER_REFUSED: 'refused',
  /** The reply of a node or nexlet says that there is no such thing. */
  NEX_PEER_NOT_FOUND: 'not-found',
  /** The reply of a node says that a nexlet does not answer. */
  NEX_PEER_UNREACHABLE: 'unreachable',
  /** The reply of a node or nexlet says that it failed. */
  NEX_PEER_FAILED: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type ProtocolErrorCode = keyof typeof KINDS;

/** What goes wrong between a client, a node and a nexlet. The code decides the kind, thus the exit code. */
export class ProtocolError extends errorClass(KINDS) {}
