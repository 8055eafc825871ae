import { errors, type Msg, type NatsConnection, type QueuedIterator } from '@nats-io/nats-core';
import { ProtocolError } from '../protocol-error.ts';

/** What others send is not taken without end: so many replies, of so many bytes in all. */
const MAX_REPLIES = 10_000;
const MAX_BYTES = 256 * 2 ** 20;

export interface GatherOptions {
  /** How long to wait for the first reply, and for all `expected` ones, in milliseconds. */
  timeout: number;
  /** How long to wait for one more reply after the last, while the number of replies is not known. Default 300 ms. */
  stall?: number;
  /** How many replies there will be. While the promise is pending, the end of a stall is not the end. */
  expected?: number | Promise<number | undefined> | undefined;
  /** Ends the wait when it returns true for a reply. */
  until?: (msg: Msg) => boolean;
  /** Says of a reply that its sender will send another one; it is no part of the result. */
  interim?: (msg: Msg) => boolean;
  signal?: AbortSignal | undefined;
}

export interface Gathered {
  readonly replies: Msg[];
  /** Nobody listens on the subject at all. */
  readonly noResponders: boolean;
}

/**
 * Sends one request and gathers the replies of everybody: until all expected ones are in, else until nobody has
 * answered for a moment, at last until `timeout`. No reply is an empty result, not an error. After 10 000 replies, or
 * 256 MiB of them, the rest is left.
 *
 * @throws {ProtocolError} NEX_PERMISSION, NEX_CONNECTION_CLOSED; whatever `signal` was aborted with
 */
export async function gather(
  nc: NatsConnection,
  subject: string,
  payload: string,
  options: GatherOptions,
): Promise<Gathered> {
  const { timeout, until, interim, signal } = options;
  signal?.throwIfAborted();
  const replies: Msg[] = [];
  let stop: (() => void) | undefined;
  let bytes = 0;
  let end: End | undefined;
  try {
    // requestMany() is declared as an AsyncIterable only, but what it returns is a QueuedIterator, which can be stopped.
    const incoming = (await nc.requestMany(subject, payload, {
      strategy: 'timer',
      maxWait: timeout,
    })) as QueuedIterator<Msg>;
    stop = () => incoming.stop();
    signal?.addEventListener('abort', stop);
    if (signal?.aborted === true) stop();
    end = new End(stop, options);
    for await (const msg of incoming) {
      if (interim?.(msg) === true) continue;
      replies.push(msg);
      bytes += msg.data.length;
      if (until?.(msg) === true || replies.length === MAX_REPLIES || bytes > MAX_BYTES) break;
      end.seen(replies.length);
    }
  } catch (error) {
    if (error instanceof errors.NoRespondersError) return { replies, noResponders: true };
    throw connectionError(error, subject);
  } finally {
    end?.clear();
    if (stop !== undefined) signal?.removeEventListener('abort', stop);
  }
  signal?.throwIfAborted();
  return { replies, noResponders: false };
}

/** Decides when enough replies are in. */
class End {
  readonly #stop: () => void;
  readonly #stall: number;
  #expected: number | undefined;
  #expectedPending = false;
  #count = 0;
  #cleared = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(stop: () => void, { expected, stall = 300 }: GatherOptions) {
    this.#stop = stop;
    this.#stall = stall;
    if (typeof expected === 'object') void this.#learn(expected);
    else this.#expected = expected;
  }

  seen(count: number): void {
    this.#count = count;
    clearTimeout(this.#timer);
    if (this.#expected !== undefined) {
      if (count >= this.#expected) this.#stop();
    } else if (!this.#expectedPending && count > 0) {
      this.#timer = setTimeout(this.#stop, this.#stall);
    }
  }

  clear(): void {
    this.#cleared = true;
    clearTimeout(this.#timer);
  }

  async #learn(expected: Promise<number | undefined>): Promise<void> {
    this.#expectedPending = true;
    this.#expected = await expected.catch(() => undefined);
    this.#expectedPending = false;
    if (!this.#cleared) this.seen(this.#count);
  }
}

/** Sends one request and waits for the first reply; undefined when there is none in time. See {@link gather} for the rest. */
export async function requestOne(
  nc: NatsConnection,
  subject: string,
  payload: string,
  options: { timeout: number; signal?: AbortSignal | undefined },
): Promise<{ reply: Msg | undefined; noResponders: boolean }> {
  const { replies, noResponders } = await gather(nc, subject, payload, { ...options, expected: 1 });
  return { reply: replies[0], noResponders };
}

/** Gives an error of the NATS client a name of this package, where it has one. */
export function connectionError(error: unknown, subject: string): unknown {
  // Requests of the client library itself, as those to JetStream, wrap it.
  const denial = error instanceof errors.RequestError ? error.cause : error;
  if (denial instanceof errors.PermissionViolationError) {
    const message = `Cannot use subject "${denial.subject}": the NATS server denies ${denial.operation} to this user`;
    return new ProtocolError('NEX_PERMISSION', message, {
      cause: error,
      hint: 'Use credentials that may, or ask who made these',
    });
  }
  const closed = error instanceof errors.ClosedConnectionError || error instanceof errors.DrainingConnectionError;
  if (closed || (error instanceof errors.RequestError && error.message === 'connection closed')) {
    const message = `Cannot send to "${subject}": the NATS connection is closed`;
    return new ProtocolError('NEX_CONNECTION_CLOSED', message, { cause: error });
  }
  return error;
}
