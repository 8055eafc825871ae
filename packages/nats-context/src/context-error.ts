import { errorClass, type ErrorKind } from '@nex-nix/errors';

/** Every code that this package throws, and the kind of failure that it is. */
const KINDS = {
  /** No context of that name in the folder. */
  CONTEXT_NOT_FOUND: 'not-found',
  /** A name that cannot be a file name. */
  CONTEXT_NAME_INVALID: 'usage',
  /** The file is not what natscli writes, or its fields contradict each other. */
  CONTEXT_INVALID: 'usage',
  /** The context uses something that natscli has and this package has not. */
  CONTEXT_UNSUPPORTED: 'usage',
  /** A creds file, seed or certificate that the context names cannot be read or parsed. */
  CONTEXT_CREDENTIALS: 'failed',
  /** No server answered in time. */
  CONTEXT_UNREACHABLE: 'unreachable',
  /** The server answered and refused the credentials. */
  CONTEXT_REFUSED: 'refused',
} as const satisfies Record<string, ErrorKind>;

export type ContextErrorCode = keyof typeof KINDS;

/** The error of this package. Messages carry no passwords, tokens, seeds or JWTs. */
export class ContextError extends errorClass(KINDS) {}
