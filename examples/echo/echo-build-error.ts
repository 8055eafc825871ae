import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** A program that the build needs is not on PATH. */
  ECHO_TOOL_MISSING: 'not-found',
  ECHO_BUILD_FAILED: 'failed',
} as const satisfies Record<string, ErrorKind>;

/** Why the echo service could not be built. */
export class EchoBuildError extends errorClass(KINDS) {}
