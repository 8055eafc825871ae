/**
 * What kind of failure an error is. It decides the exit code of the `nex` command:
 *
 * | kind          | exit code | meaning                                              |
 * | ------------- | --------- | ---------------------------------------------------- |
 * | `failed`      | 1         | it was tried and did not work                        |
 * | `usage`       | 2         | the caller asked for something that makes no sense   |
 * | `not-found`   | 3         | the thing that was named does not exist              |
 * | `refused`     | 4         | it exists and would work, but a rule forbids it      |
 * | `unreachable` | 5         | the other side does not answer                       |
 */
export type ErrorKind = 'failed' | 'usage' | 'not-found' | 'refused' | 'unreachable';

const EXIT_CODES = {
  failed: 1,
  usage: 2,
  'not-found': 3,
  refused: 4,
  unreachable: 5,
} as const satisfies Record<ErrorKind, number>;

export interface NexErrorOptions {
  /** One sentence, or a command to paste, that says what to do next. */
  hint?: string | undefined;
  /** The error that led to this one. */
  cause?: unknown;
}

/**
 * Base of every error that this project throws on purpose.
 *
 * `message` says what happened to which thing, without a full stop; `code` is stable and may be matched on.
 * Each package derives one class with its own table of codes.
 */
export abstract class NexError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly kind: ErrorKind;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, code: Code, message: string, options: NexErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = new.target.name;
    this.kind = kind;
    this.code = code;
    this.hint = options.hint;
  }
}

/**
 * Makes the base of a package's error class out of its table of codes: `class ToolError extends errorClass(KINDS) {}`.
 * An error of that class is made of a code, a message and options; the table gives it its kind.
 */
export function errorClass<Code extends string>(kinds: Readonly<Record<Code, ErrorKind>>) {
  return class extends NexError<Code> {
    constructor(code: Code, message: string, options: NexErrorOptions = {}) {
      super(kinds[code], code, message, options);
    }
  };
}

/** An error as it may be shown to whoever asked: no stack, no cause. */
export interface PublicError {
  code: string;
  message: string;
  hint?: string;
}

/** Whether `error` was thrown on purpose. Also true for errors of another copy of this package. */
export function isNexError(error: unknown): error is NexError {
  return error instanceof Error && 'code' in error && 'kind' in error && (error.kind as string) in EXIT_CODES;
}

/** The kind of any thrown value; whatever was not thrown on purpose has `failed`. */
export function errorKind(error: unknown): ErrorKind {
  return isNexError(error) ? error.kind : 'failed';
}

/** Exit code of a command that ends with `error`. */
export function exitCode(error: unknown): number {
  return EXIT_CODES[errorKind(error)];
}

/** What to show of any thrown value. Errors not thrown on purpose have the code `INTERNAL`. */
export function toPublicError(error: unknown): PublicError {
  if (isNexError(error)) {
    return { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) };
  }
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) };
}
