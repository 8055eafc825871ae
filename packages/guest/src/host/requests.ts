import { GuestError } from '../guest-error.ts';
import { type AnswerValues, checkValue, type UncheckedAnswer } from '../protocol/guest-message.ts';
import type { Cancel, GuestRequest } from '../protocol/messages.ts';

/** What a host asks for. An `exec` is cancelled by its signal. */
export type HostRequest = Exclude<GuestRequest, Cancel>;

export interface RequestOptions {
  /** Ends the wait for an answer. That of an `exec` ends when its command has been killed. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until `GUEST_TIMEOUT`. @default as long as the connection lasts */
  timeoutMs?: number | undefined;
}

/** A request under way. Stays until it is answered, also when nobody waits any more: a late answer is none of nothing. */
interface Pending {
  type: GuestRequest['type'];
  resolve: (value: AnswerValues[GuestRequest['type']]) => void;
  reject: (reason: unknown) => void;
}

/** The requests of one connection, and their answers. */
export class Requests {
  readonly #send: (request: GuestRequest & { id: number }) => void;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #closed: GuestError | undefined;

  constructor(send: (request: GuestRequest & { id: number }) => void) {
    this.#send = send;
  }

  /** Sends a request; gives its answer. */
  async make<R extends HostRequest>(request: R, options: RequestOptions = {}): Promise<AnswerValues[R['type']]> {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw disconnected(request.type, this.#closed);
    const { id, answer, reject } = this.#begin(request);
    const stop = () => {
      if (request.type === 'exec') this.#cancel(id);
      else reject(signal?.reason);
    };
    const timer =
      timeoutMs === undefined ? undefined : setTimeout(() => reject(late(request.type, timeoutMs)), timeoutMs);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const value = await answer;
      if (request.type === 'exec') signal?.throwIfAborted();
      return value as AnswerValues[R['type']];
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Takes an answer. Throws GUEST_PROTOCOL when nothing was asked, or the answer is none to that. */
  settle({ id, error, value }: UncheckedAnswer): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      throw new GuestError('GUEST_PROTOCOL', `Cannot understand an answer: there is no request ${id}`);
    }
    const { type, resolve, reject } = pending;
    if (error === undefined) {
      const checked = checkValue(type, value);
      this.#pending.delete(id);
      resolve(checked);
      return;
    }
    this.#pending.delete(id);
    const message = `Cannot ${VERBS[type]} in a guest: ${error.message}`;
    reject(new GuestError('GUEST_REFUSED', message, { refusal: error.code }));
  }

  /** Nothing will be answered any more. */
  close(reason: GuestError): void {
    this.#closed = reason;
    for (const { type, reject } of this.#pending.values()) reject(disconnected(type, reason));
    this.#pending.clear();
  }

  #begin(request: GuestRequest) {
    const id = ++this.#lastId;
    const { promise: answer, resolve, reject } = Promise.withResolvers<AnswerValues[GuestRequest['type']]>();
    // Sent first: what is too long was never asked.
    this.#send({ ...request, id });
    this.#pending.set(id, { type: request.type, resolve, reject });
    return { id, answer, reject };
  }

  #cancel(exec: number): void {
    if (this.#closed === undefined && this.#pending.has(exec)) {
      // A guest that does not know the command any more has answered it.
      this.#begin({ type: 'cancel', exec }).answer.catch(() => undefined);
    }
  }
}

const VERBS: Readonly<Record<GuestRequest['type'], string>> = {
  identify: 'set up the identity',
  prepare: 'set up the file system',
  start: 'start the program',
  signal: 'send a signal',
  kill: 'kill the program',
  exec: 'run a command',
  cancel: 'cancel a command',
  replace: 'replace a file',
  usage: 'read the usage',
  clock: 'set the clock',
  ping: 'see any life',
  settle: 'get ready for a snapshot',
  shutdown: 'power off',
};

function late(type: GuestRequest['type'], timeoutMs: number): GuestError {
  return new GuestError('GUEST_TIMEOUT', `Cannot ${VERBS[type]} in a guest: no answer within ${timeoutMs} ms`);
}

function disconnected(type: GuestRequest['type'], reason: GuestError): GuestError {
  return new GuestError(reason.code, `Cannot ${VERBS[type]} in a guest: ${reason.message}`, { cause: reason });
}
