import type { Duplex } from 'node:stream';
import { GuestError } from '../guest-error.ts';
import { FrameDecoder } from '../protocol/frame-decoder.ts';
import { encodeGuestMessage, encodeOutput } from '../protocol/frames.ts';
import { checkType } from '../protocol/guest-message.ts';
import { ackIn, checkRequest, helloIn, requestId } from '../protocol/host-message.ts';
import {
  type Answer,
  type GuestErrorCodeOnWire,
  type GuestExit,
  type GuestMessage,
  type GuestRequest,
  type GuestState,
  type Hello,
  type OutputStream,
  PROTOCOL_VERSIONS,
} from '../protocol/messages.ts';
import { OutgoingOutput } from './outgoing-output.ts';

export interface AgentOptions {
  /** Version of the agent. */
  version: string;
  /** What a host is told of the guest when it says `hello`. */
  describe: () => { boot: string; state: GuestState };
  /**
   * Does what a host asks for, and gives the value of the answer. Called in the order of the requests, each without waiting
   * for the one before. A GuestError with a `refusal` is answered with that, anything else that is thrown with `failed`.
   * `signal`: aborted by a `cancel` of an `exec`, and when another host has come to whom the answer says nothing.
   */
  handle: (request: AgentRequest, options: { signal: AbortSignal }) => unknown;
  /** The host knows how the program ended. */
  onExitAck?: () => void;
}

/** What is left to do of what a host asks for: a `cancel` aborts the signal of its `exec`. */
export type AgentRequest = Exclude<GuestRequest, { type: 'cancel' }>;

/**
 * The agent's end of the channel to its host. Hosts come and go, over channels of their own or over the same one: whoever
 * says `hello` last is the one, and gets the output that it has not got. One object for the life of the guest.
 */
export class AgentConnection {
  readonly #options: AgentOptions;
  readonly #output = new OutgoingOutput(() => this.#channel?.wake());
  #channel: AgentChannel | undefined;
  #session: Session | undefined;
  #exit: GuestExit | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
  }

  /**
   * Listens to a channel, in place of the one before, which is closed. Resolves when the channel has ended, for whatever
   * reason; another one may follow.
   */
  async attach(stream: Duplex): Promise<void> {
    this.#channel?.close();
    const channel = new AgentChannel(stream, {
      receive: (value) => {
        if (channel === this.#channel) this.#receive(value);
      },
      next: () => (channel === this.#channel ? this.#next() : undefined),
    });
    this.#channel = channel;
    this.#session?.end();
    this.#session = undefined;
    await channel.closed;
  }

  /** Takes output of the program for the host; resolves when there is room for more. One call at a time for each stream. */
  async write(stream: OutputStream, bytes: Uint8Array): Promise<void> {
    await this.#output.write(stream, bytes);
  }

  /** Tells the host that the program has ended, after all that was written. */
  exited(exit: GuestExit): void {
    this.#exit = exit;
    this.#channel?.wake();
  }

  #receive(value: unknown): void {
    const hello = helloIn(value);
    if (hello !== undefined) {
      this.#welcome(hello);
      return;
    }
    const session = this.#session;
    if (session === undefined || session.version === undefined) return;
    try {
      const ack = ackIn(value);
      if (ack !== undefined) this.#output.ack(ack);
      else if (checkType(value).type === 'exit-ack') this.#options.onExitAck?.();
      else void this.#answer(session, value);
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      // Nothing that could be answered.
    }
  }

  /** A host says `hello` until it is answered: the second one of the same host says nothing new. */
  #welcome({ session: name, versions, have }: Hello): void {
    if (this.#session?.name === name) return;
    this.#session?.end();
    const version = PROTOCOL_VERSIONS.find((own) => versions.includes(own));
    this.#session = new Session(name, version);
    const from = this.#output.restart(have);
    this.#session.say({
      type: 'welcome',
      version: version ?? PROTOCOL_VERSIONS[0] ?? 0,
      session: name,
      agent: this.#options.version,
      ...this.#options.describe(),
      ...(this.#exit === undefined ? {} : { exit: this.#exit }),
      from,
    });
    this.#channel?.wake();
  }

  async #answer(session: Session, value: unknown): Promise<void> {
    const id = requestId(value);
    if (id === undefined) return;
    const reply = await this.#carryOut(session, { id, value });
    try {
      session.say({ type: 'answer', id, ...reply });
    } catch (error) {
      session.say({ type: 'answer', id, error: { code: 'failed', message: messageOf(error) } });
    }
    this.#channel?.wake();
  }

  async #carryOut(
    session: Session,
    { id, value }: { id: number; value: unknown },
  ): Promise<Omit<Answer, 'type' | 'id'>> {
    let request: GuestRequest;
    try {
      request = checkRequest(value);
    } catch (error) {
      return { error: { code: 'invalid', message: messageOf(error) } };
    }
    if (request.type === 'cancel') {
      session.cancel(request.exec);
      return { value: {} };
    }
    try {
      const signal = session.begin(id);
      return { value: (await this.#options.handle(request, { signal })) ?? {} };
    } catch (error) {
      const code: GuestErrorCodeOnWire = (error instanceof GuestError ? error.refusal : undefined) ?? 'failed';
      return { error: { code, message: messageOf(error) } };
    } finally {
      session.finish(id);
    }
  }

  /** What the host is to get next: messages first, output next, and the end of the program after all of it. */
  #next(): Buffer | undefined {
    const session = this.#session;
    const message = session?.queue.shift();
    if (message !== undefined) return message;
    if (session === undefined || session.version === undefined) return undefined;
    const output = this.#output.next();
    if (output !== undefined) return encodeOutput(output);
    if (this.#exit === undefined || session.hasSaidExit || !this.#output.isSent) return undefined;
    session.hasSaidExit = true;
    return encodeGuestMessage({ type: 'exited', exit: this.#exit });
  }
}

/** What one host is owed. Nothing of it is any other host's. */
class Session {
  readonly name: string;
  /** Undefined: there is none that both sides speak. */
  readonly version: number | undefined;
  readonly queue: Buffer[] = [];
  hasSaidExit = false;
  readonly #running = new Map<number, AbortController>();
  #isOver = false;

  constructor(name: string, version: number | undefined) {
    this.name = name;
    this.version = version;
  }

  say(message: GuestMessage): void {
    if (!this.#isOver) this.queue.push(encodeGuestMessage(message));
  }

  begin(id: number): AbortSignal {
    const controller = new AbortController();
    this.#running.set(id, controller);
    if (this.#isOver) controller.abort();
    return controller.signal;
  }

  cancel(id: number): void {
    this.#running.get(id)?.abort();
  }

  finish(id: number): void {
    this.#running.delete(id);
  }

  end(): void {
    this.#isOver = true;
    this.queue.length = 0;
    for (const controller of this.#running.values()) controller.abort();
  }
}

/** One channel: what comes over it, and what goes, a frame at a time, since what was given away cannot be taken back. */
class AgentChannel {
  readonly closed: Promise<void>;
  readonly #stream: Duplex;
  readonly #next: () => Buffer | undefined;
  #isWriting = false;

  constructor(
    stream: Duplex,
    { receive, next }: { receive: (value: unknown) => void; next: () => Buffer | undefined },
  ) {
    this.#stream = stream;
    this.#next = next;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    const decoder = new FrameDecoder({ sender: 'host', mark: '"type":"hello"' });
    stream.on('data', (bytes: Buffer) => {
      for (const frame of decoder.push(bytes)) if (frame.kind === 'message') receive(frame.value);
    });
    // A host that goes is no error: the next one will say what it has got.
    stream.on('error', () => stream.destroy());
    stream.on('end', () => stream.destroy());
    stream.on('close', resolve);
    if (stream.destroyed) resolve();
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#isWriting || !this.#stream.writable) return;
    const frame = this.#next();
    if (frame === undefined) return;
    this.#isWriting = true;
    this.#stream.write(frame, () => {
      this.#isWriting = false;
      this.wake();
    });
  }

  close(): void {
    this.#stream.destroy();
  }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 2000);
}
