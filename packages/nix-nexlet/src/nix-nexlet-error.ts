import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** The start request breaks its schema or contradicts itself. */
  NIX_NEXLET_REQUEST_INVALID: 'usage',
  /** The store path holds no such program, or none that could be chosen. */
  NIX_NEXLET_PROGRAM_NOT_FOUND: 'not-found',
  /** The program's dynamic loader, or the interpreter that its first line names, is not in the closure. */
  NIX_NEXLET_INTERPRETER_MISSING: 'refused',
  /** There is a workload of that id, and it has not ended. */
  NIX_NEXLET_WORKLOAD_EXISTS: 'refused',
  /** What is sealed in the start request is sealed for another key than this nexlet's. */
  NIX_NEXLET_NOT_SEALED_FOR_US: 'refused',
  /** The machine has not so much memory, or so many processors, left. */
  NIX_NEXLET_NO_ROOM: 'refused',
  /** The file with the key of the nexlet is damaged. */
  NIX_NEXLET_KEY_INVALID: 'failed',
  /** The workload was stopped while it was being started. */
  NIX_NEXLET_STOPPED: 'refused',
  /** The nexlet is lame duck or closing. */
  NIX_NEXLET_CLOSING: 'refused',
  /** A record of an earlier run cannot be read. */
  NIX_NEXLET_RECORD_UNREADABLE: 'failed',
  /** One invocation of a function did not end well. */
  NIX_NEXLET_INVOCATION_FAILED: 'failed',
  /** A function cannot be given what a message has. */
  NIX_NEXLET_INVOCATION_REFUSED: 'refused',
} as const satisfies Record<string, ErrorKind>;

export type NixNexletErrorCode = keyof typeof KINDS;

/** What goes wrong between a start request and a running sandbox, as far as this package finds it. */
export class NixNexletError extends errorClass(KINDS) {}
