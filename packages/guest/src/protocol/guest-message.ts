import { type Check, base64, boolean, integer, nothing, object, oneOf, optional, text } from './checks.ts';
import { GuestError } from '../guest-error.ts';
import type {
  Answer,
  ExecAnswer,
  Exited,
  GuestExit,
  GuestRequest,
  StreamPositions,
  UsageAnswer,
  Welcome,
} from './messages.ts';

/** Bytes of an `exec` that are told of, and some for what cuts them off. */
const EXEC_OUTPUT = 8192;

export const positions: Check<StreamPositions> = object({ stdout: integer(0), stderr: integer(0) });

export const signalName: Check<string> = text(12, /^SIG[A-Z][A-Z0-9+-]*$/);

const exit: Check<GuestExit> = object({ code: integer(0, 255), signal: optional(signalName), outOfMemory: boolean });

const welcome: Check<Omit<Welcome, 'type'>> = object({
  version: integer(0),
  session: text(64),
  agent: text(64, /^[\x21-\x7e]+$/),
  boot: text(128, /^[\x21-\x7e]+$/),
  state: oneOf('idle', 'prepared', 'running', 'exited'),
  exit: optional(exit),
  from: positions,
});

const answer: Check<Omit<Answer, 'type' | 'value'>> = object({
  id: integer(1),
  error: optional(
    object({
      code: oneOf('invalid', 'program-not-found', 'program-not-executable', 'failed'),
      message: text(65_536),
    }),
  ),
});

const exited: Check<Omit<Exited, 'type'>> = object({ exit });

const exec: Check<ExecAnswer> = object({ code: integer(0, 255), output: base64(0, EXEC_OUTPUT) });

const traffic = object({ received: integer(0), sent: integer(0) });

const usage: Check<UsageAnswer> = object({
  memory: optional(integer(0)),
  memoryPeak: optional(integer(0)),
  cpuMicros: optional(integer(0)),
  pids: optional(integer(0)),
  network: optional(traffic),
});

/** What requests are answered with; `undefined` where nothing is said of it. */
export interface AnswerValues {
  identify: undefined;
  prepare: undefined;
  start: undefined;
  signal: undefined;
  kill: undefined;
  exec: ExecAnswer;
  cancel: undefined;
  replace: { replaced: boolean };
  usage: UsageAnswer;
  clock: undefined;
  ping: undefined;
  settle: undefined;
  shutdown: undefined;
}

const VALUES: { readonly [Type in GuestRequest['type']]: Check<AnswerValues[Type]> } = {
  identify: nothing,
  prepare: nothing,
  start: nothing,
  signal: nothing,
  kill: nothing,
  exec,
  cancel: nothing,
  replace: object({ replaced: boolean }),
  usage,
  clock: nothing,
  ping: nothing,
  settle: nothing,
  shutdown: nothing,
};

/** What of an answer is known before its request is. */
export type UncheckedAnswer = Omit<Answer, 'value'> & { value: unknown };

/**
 * A message of a guest, which may be anybody's by now. What an answer is worth is said by {@link checkValue}.
 *
 * @throws GuestError GUEST_PROTOCOL
 */
export function checkGuestMessage(value: unknown): Welcome | UncheckedAnswer | Exited {
  const { type } = checkType(value);
  if (type === 'welcome') return { type, ...welcome(value, type) };
  if (type === 'answer') {
    const { error, ...rest } = answer(value, type);
    const said = error && { ...error, message: printable(error.message) };
    return { type, ...rest, ...(said && { error: said }), value: (value as { value?: unknown }).value };
  }
  if (type === 'exited') return { type, ...exited(value, type) };
  throw new GuestError('GUEST_PROTOCOL', `Cannot understand a message: nothing is of the type ${JSON.stringify(type)}`);
}

/** The value of an answer to a request of that type. Throws GUEST_PROTOCOL. */
export function checkValue<Type extends GuestRequest['type']>(type: Type, value: unknown): AnswerValues[Type] {
  return VALUES[type](value, `answer to ${type}`);
}

/** Of any message. */
export const checkType: (value: unknown) => { type: string } = (value) => object({ type: text(32) })(value, 'message');

/** What others will print, without what a terminal would obey, and no longer than they like. */
function printable(message: string): string {
  const clean = message.replaceAll(/[^\P{C}\n\t]/gu, '\ufffd');
  return clean.length > 2000 ? `${clean.slice(0, 2000)}…` : clean;
}
