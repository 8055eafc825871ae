import type { Duplex } from 'node:stream';
import { GuestError } from '../guest-error.ts';
import type { Frame } from '../protocol/frame-decoder.ts';
import { type AnswerValues, checkGuestMessage } from '../protocol/guest-message.ts';
import {
  type GuestExit,
  type Output,
  PROTOCOL_VERSIONS,
  type StreamPositions,
  type Welcome,
} from '../protocol/messages.ts';
import { gone, HostLink } from './host-link.ts';
import { IncomingOutput } from './incoming-output.ts';
import { type HostRequest, type RequestOptions, Requests } from './requests.ts';

export interface OpenOptions {
  /** Bytes of output that are safe already. @default none */
  have?: StreamPositions;
  signal?: AbortSignal | undefined;
  /** Milliseconds for the guest to answer. @default 30 000 */
  timeoutMs?: number;
  /** Milliseconds after which the guest is greeted again: what it is sent before it listens may be lost. @default 250 */
  retryMs?: number;
  /** Asks the guest every `intervalMs` whether it is alive; `misses` times nothing in a row, and the connection ends. */
  heartbeat?: { intervalMs: number; misses: number };
}

const START: StreamPositions = { stdout: 0, stderr: 0 };

/** A guest that does not read is not greeted ever again. */
const MAX_UNREAD = 64 * 1024;

/**
 * The host's end of the channel to a guest's agent, from its greeting on. The guest is taken for hostile: what is not
 * exactly as the protocol has it ends the connection with `GUEST_PROTOCOL`. Disposing it lets go of the guest, which goes on.
 */
export class GuestConnection implements AsyncDisposable {
  /** What the guest said of itself. */
  readonly welcome: Welcome;
  /** The program has ended and all its output has come. Rejects with why the connection has ended before that. */
  readonly exited: Promise<GuestExit>;
  /** Resolves when nothing can come any more, with the reason. */
  readonly closed: Promise<GuestError>;
  readonly #link: HostLink;
  readonly #output: IncomingOutput;
  readonly #requests: Requests;
  readonly #exit = Promise.withResolvers<GuestExit>();
  #hasExited = false;
  /** Whether anything came since the last heartbeat. */
  #isAlive = true;

  /**
   * Greets the guest behind a channel, until it answers. The channel is this connection's from now on, and closed when
   * that fails.
   *
   * @throws GuestError GUEST_TIMEOUT, GUEST_DISCONNECTED, GUEST_VERSION, GUEST_PROTOCOL
   */
  static async open(channel: Duplex, options: OpenOptions = {}): Promise<GuestConnection> {
    const { have = START, heartbeat } = options;
    const link = new HostLink(channel);
    try {
      const welcome = await greet(link, { ...options, have });
      return new GuestConnection(link, { welcome, have, heartbeat });
    } catch (error) {
      link.close(asGuestError(error));
      throw error;
    }
  }

  private constructor(
    link: HostLink,
    { welcome, have, heartbeat }: { welcome: Welcome; have: StreamPositions; heartbeat: OpenOptions['heartbeat'] },
  ) {
    this.welcome = welcome;
    this.exited = this.#exit.promise;
    this.exited.catch(() => undefined);
    this.closed = link.closed;
    this.#link = link;
    this.#output = new IncomingOutput(have);
    this.#requests = new Requests((request) => link.send(request));
    const beat = heartbeat && this.#beat(heartbeat);
    void this.#end(beat);
    link.receive((frame) => this.#take(frame));
  }

  /**
   * Sends a request and gives the value of its answer.
   *
   * @throws GuestError GUEST_REFUSED with `refusal`, GUEST_TIMEOUT, or why the connection has ended
   */
  async request<R extends HostRequest>(request: R, options?: RequestOptions): Promise<AnswerValues[R['type']]> {
    return this.#requests.make(request, options);
  }

  /**
   * The program's output from `have` on, to one reader; ends with the program, and throws with the connection. Whoever does
   * not acknowledge what it has read makes the program wait, and nothing else.
   */
  output(): AsyncGenerator<Output, void, undefined> {
    return this.#output.read();
  }

  /** Output up to these positions is safe, and need not be sent again. Only what was read can be. */
  ack(positions: StreamPositions): void {
    this.#output.ack(positions);
    this.#link.send({ type: 'ack', ...positions });
  }

  /** How the program ended is known for certain, and need not be said again. */
  ackExit(): void {
    this.#link.send({ type: 'exit-ack' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#link.close(new GuestError('GUEST_DISCONNECTED', 'this side has let go of it'));
    await this.closed;
  }

  #take(frame: Frame): void {
    this.#isAlive = true;
    if (frame.kind === 'output') {
      this.#output.push(frame.output);
      return;
    }
    const message = checkGuestMessage(frame.value);
    if (message.type === 'answer') {
      this.#requests.settle(message);
    } else if (message.type === 'exited' && !this.#hasExited) {
      this.#hasExited = true;
      this.#output.end();
      this.#exit.resolve(message.exit);
    } else {
      throw new GuestError('GUEST_PROTOCOL', `Cannot understand a guest: it says "${message.type}" a second time`);
    }
  }

  async #end(beat: NodeJS.Timeout | undefined): Promise<void> {
    const reason = await this.closed;
    clearInterval(beat);
    this.#requests.close(reason);
    this.#output.end(reason);
    this.#exit.reject(reason);
  }

  #beat({ intervalMs, misses }: { intervalMs: number; misses: number }): NodeJS.Timeout {
    let missed = 0;
    const timer = setInterval(() => {
      missed = this.#isAlive ? 0 : missed + 1;
      this.#isAlive = false;
      if (missed >= misses) {
        const message = `Cannot see any life in a guest: it has not answered for ${missed * intervalMs} ms`;
        this.#link.close(new GuestError('GUEST_TIMEOUT', message));
        return;
      }
      this.#requests.make({ type: 'ping' }).catch(() => undefined);
    }, intervalMs);
    return timer.unref();
  }
}

/** Says `hello` until it is answered. */
async function greet(link: HostLink, options: OpenOptions & { have: StreamPositions }): Promise<Welcome> {
  const { have, signal, timeoutMs = 30_000, retryMs = 250 } = options;
  signal?.throwIfAborted();
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const hello = () => {
    if (link.unsent < MAX_UNREAD) {
      link.send({ type: 'hello', versions: [...PROTOCOL_VERSIONS], session: link.session, have });
    }
  };
  const abort = () => reject(signal?.reason);
  const again = setInterval(hello, retryMs);
  const timer = setTimeout(() => reject(silent(timeoutMs)), timeoutMs);
  signal?.addEventListener('abort', abort, { once: true });
  void link.closed.then(reject);
  hello();
  try {
    return checkWelcome(await Promise.race([link.first, stopped]), { have, session: link.session });
  } finally {
    clearInterval(again);
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function checkWelcome(frame: Frame, { have, session }: { have: StreamPositions; session: string }): Welcome {
  const welcome = frame.kind === 'message' ? checkGuestMessage(frame.value) : undefined;
  if (welcome?.type !== 'welcome' || welcome.session !== session) {
    throw new GuestError('GUEST_PROTOCOL', 'Cannot understand a guest: its first message is no welcome');
  }
  if (!PROTOCOL_VERSIONS.includes(welcome.version)) {
    throw new GuestError(
      'GUEST_VERSION',
      `Cannot talk to a guest: its agent ${welcome.agent} speaks version ${welcome.version}, expected ${PROTOCOL_VERSIONS.join(', ')}`,
      { hint: 'Build the guest image anew' },
    );
  }
  const { from } = welcome;
  if (from.stdout !== have.stdout || from.stderr !== have.stderr) {
    const message = `Cannot go on with the output of a guest: it has it from ${from.stdout} and ${from.stderr} on, expected ${have.stdout} and ${have.stderr}`;
    throw new GuestError('GUEST_PROTOCOL', message);
  }
  return welcome;
}

function silent(timeoutMs: number): GuestError {
  return new GuestError('GUEST_TIMEOUT', `Cannot talk to a guest: its agent did not answer within ${timeoutMs} ms`);
}

function asGuestError(error: unknown): GuestError {
  return error instanceof GuestError ? error : gone('nobody waits for its answer any more');
}
