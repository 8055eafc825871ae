export { errorClass, errorKind, exitCode, isNexError, NexError, toPublicError } from './nex-error.ts';
export type { ErrorKind, NexErrorOptions, PublicError } from './nex-error.ts';
