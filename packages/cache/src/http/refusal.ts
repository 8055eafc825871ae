import { errorKind, isNexError, toPublicError } from '@nex-nix/errors';

/** An answer other than success, and the sentence that the client prints. */
export class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    { headers = {}, cause }: { headers?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.name = 'Refusal';
    this.status = status;
    this.headers = headers;
  }
}

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  CACHE_PATH_NOT_FOUND: 404,
  CACHE_PATH_CONFLICT: 409,
  CACHE_SIGNATURES_LIMIT: 409,
  CACHE_REFERENCE_MISSING: 422,
  CACHE_NAR_MISMATCH: 422,
  CACHE_COMPRESSION_FAILED: 422,
  CACHE_NARINFO_INVALID: 400,
  CACHE_NAR_TOO_LARGE: 413,
  CACHE_STORAGE_FULL: 413,
};

/** Seconds after which a client may ask again. */
const RETRY_AFTER = '5';

/**
 * The answer to a request that failed.
 * @param final - whether the client must not be asked to try again: Nix before 2.34 sends nothing the second time, and waits
 *   for ever. It takes every status from 500 on, and 429, as such a request.
 */
export function refusalOf(error: unknown, { final }: { final: boolean }): Refusal {
  if (error instanceof Refusal)
    return final && error.status >= 500 ? new Refusal(424, error.message, { cause: error }) : error;
  const { message, hint, code } = toPublicError(error);
  const text = hint === undefined ? message : `${message}\n${hint}`;
  const status = STATUS_BY_CODE[code] ?? (code.startsWith('NIX_') ? 422 : undefined);
  if (status !== undefined) return new Refusal(status, text, { cause: error });
  if (final) return new Refusal(424, text, { cause: error });
  if (errorKind(error) === 'unreachable') {
    return new Refusal(503, text, { headers: { 'retry-after': RETRY_AFTER }, cause: error });
  }
  return new Refusal(500, isNexError(error) ? text : 'Cannot answer: the door has failed', { cause: error });
}
