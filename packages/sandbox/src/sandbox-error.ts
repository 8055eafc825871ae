import { errorClass, type ErrorKind } from '@nex-nix/errors';

/** Code of every error of this package, with the kind it always has. */
const KINDS = {
  /** A field of the spec has a value that makes no sense. */
  SANDBOX_SPEC_INVALID: 'usage',
  /** The program is not a file of the closure. */
  SANDBOX_PROGRAM_NOT_FOUND: 'not-found',
  /** The program is there, but nothing that can be executed. */
  SANDBOX_PROGRAM_NOT_EXECUTABLE: 'failed',
  /** A store path of the closure does not lie where the spec says. */
  SANDBOX_SOURCE_NOT_FOUND: 'not-found',
  /** The OCI runtime is not installed. */
  SANDBOX_RUNTIME_MISSING: 'not-found',
  /** This process has not the rights that making sandboxes needs. */
  SANDBOX_NOT_PERMITTED: 'refused',
  /** A wanted limit cannot be enforced on this machine. */
  SANDBOX_LIMIT_UNSUPPORTED: 'refused',
  /** A sandbox of that id exists. */
  SANDBOX_ID_TAKEN: 'refused',
  /** `start()` was called a second time. */
  SANDBOX_ALREADY_STARTED: 'refused',
  /** `remove()` was called on a running sandbox. */
  SANDBOX_RUNNING: 'refused',
  /** The program could not be started. */
  SANDBOX_START_FAILED: 'failed',
  /** Processes of the sandbox stay alive after SIGKILL. */
  SANDBOX_STOP_FAILED: 'failed',
  /** A command cannot be run in the sandbox. */
  SANDBOX_EXEC_FAILED: 'failed',
  /** The program printed more than whoever ran it takes. */
  SANDBOX_OUTPUT_TOO_LARGE: 'failed',
  /** The network of a sandbox cannot be made, or part of what it needs is missing. */
  SANDBOX_NETWORK_FAILED: 'failed',
  /** A port to be exposed is in use on this machine. */
  SANDBOX_PORT_TAKEN: 'refused',
  /** The program that runs virtual machines is not installed, or too old. */
  SANDBOX_VMM_MISSING: 'not-found',
  /** A virtual machine could not be started, or its VMM refused or did not answer a request. */
  SANDBOX_VMM_FAILED: 'failed',
  /** A template was made by another VMM, version or machine, or of another shape: the guest is to be booted instead. */
  SANDBOX_TEMPLATE_UNFIT: 'failed',
  /** The object was disposed, or its sandbox removed, while somebody waited for the exit. */
  SANDBOX_RELEASED: 'failed',
} as const satisfies Record<string, ErrorKind>;

export type SandboxErrorCode = keyof typeof KINDS;

/** The errors that this package throws on purpose. */
export class SandboxError extends errorClass(KINDS) {}
