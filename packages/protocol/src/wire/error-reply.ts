import { type ErrorKind, toPublicError, errorKind } from '@nex-nix/errors';
import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core';
import { newId } from './ids.ts';
import { ProtocolError, type ProtocolErrorCode } from '../protocol-error.ts';

const ERROR_HEADER = 'Nats-Service-Error';
const CODE_HEADER = 'Nats-Service-Error-Code';

/** Error codes of node replies. */
export type NodeErrorStatus = 400 | 403 | 404 | 500;

/** The code of every error reply of a nexlet. */
export const AGENT_ERROR_STATUS = 100;

/** A reply that says no: what to pass to `msg.respond(data, { headers })`. */
export interface ErrorReply {
  readonly data: string;
  readonly headers: MsgHdrs;
  /** Correlates the reply with the log of whoever sent it; empty for nexlets. */
  readonly errorId: string;
}

/**
 * Error reply of a node. `message` is the friendly text of the header; `detail` is the text of the body and defaults to it.
 * Of an internal error (500) the detail stays here: its reply says `internal server error`.
 */
export function nodeErrorReply(status: NodeErrorStatus, message: string, detail: string = message): ErrorReply {
  const errorId = newId();
  const error = status >= 500 ? 'internal server error' : detail;
  return { data: JSON.stringify({ error_id: errorId, error }), headers: errorHeaders(status, message), errorId };
}

/**
 * Error reply of a nexlet: code 100, the raw error in the header. `body` is the message that the endpoint answers with;
 * what this project knows of the error is added to it in keys that Go peers ignore.
 */
export function agentErrorReply(error: unknown, body?: Readonly<Record<string, unknown>>): ErrorReply {
  const { message, code, hint } = toPublicError(error);
  const extra = { error: message, error_kind: errorKind(error), error_code: code, error_hint: hint };
  const data = body === undefined ? '' : JSON.stringify({ ...body, ...extra });
  return { data, headers: errorHeaders(AGENT_ERROR_STATUS, message), errorId: '' };
}

function errorHeaders(status: number, message: string): MsgHdrs {
  const result = headers();
  result.set(ERROR_HEADER, message.replaceAll(/\s+/g, ' ').trim() || 'error');
  result.set(CODE_HEADER, String(status));
  return result;
}

const CODES = {
  usage: 'NEX_PEER_BAD_REQUEST',
  refused: 'NEX_PEER_REFUSED',
  'not-found': 'NEX_PEER_NOT_FOUND',
  unreachable: 'NEX_PEER_UNREACHABLE',
  failed: 'NEX_PEER_FAILED',
} as const satisfies Record<ErrorKind, ProtocolErrorCode>;

/** The code of an error reply, e.g. `404`; empty when it is an ordinary reply. */
export function replyStatus(msg: Msg): string {
  return msg.headers?.get(CODE_HEADER) ?? '';
}

/** The error that a reply carries, or undefined when it is not an error reply. Its message is what the peer says. */
export function readErrorReply(msg: Msg): ProtocolError | undefined {
  const status = replyStatus(msg);
  if (status === '') return undefined;
  const body = bodyOf(msg);
  const header = msg.headers?.get(ERROR_HEADER) ?? '';
  const message = body['error'] === 'internal server error' && header !== '' ? header : (body['error'] ?? header);
  const hint =
    body['error_hint'] ??
    (body['error_id'] ? `Look for error id ${body['error_id']} in the log of the node` : undefined);
  return new ProtocolError(
    CODES[kindOf(status, body['error_kind'])],
    message === '' ? `The peer answers with error ${status}` : message,
    { hint },
  );
}

function kindOf(status: string, stated: string | undefined): ErrorKind {
  if (stated !== undefined && Object.hasOwn(CODES, stated)) return stated as ErrorKind;
  if (status === '400') return 'usage';
  if (status === '403') return 'refused';
  return status === '404' ? 'not-found' : 'failed';
}

/** The texts of an error reply's body; error replies of Go nexlets have any body or none. */
function bodyOf(msg: Msg): Partial<Record<string, string>> {
  let body: unknown;
  try {
    body = JSON.parse(msg.string());
  } catch {
    return {};
  }
  if (typeof body !== 'object' || body === null) return {};
  return Object.fromEntries(
    Object.entries(body).filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''),
  );
}
