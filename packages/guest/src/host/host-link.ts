import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { GuestError } from '../guest-error.ts';
import { type Frame, FrameDecoder } from '../protocol/frame-decoder.ts';
import { encodeHostMessage } from '../protocol/frames.ts';
import type { HostMessage } from '../protocol/messages.ts';

/** Frames over a channel to a guest, from the one on that answers our `hello`: whatever is older is passed over. */
export class HostLink {
  /** What our `hello` says, and nobody else's. */
  readonly session = randomUUID();
  /** The first frame; pending as long as there is none. */
  readonly first: Promise<Frame>;
  /** Resolves when nothing can come any more, with the reason. */
  readonly closed: Promise<GuestError>;
  readonly #channel: Duplex;
  readonly #decoder = new FrameDecoder({ sender: 'guest', mark: this.session });
  readonly #close = Promise.withResolvers<GuestError>();
  /** What came between the first frame and `receive()`. */
  readonly #early: Frame[] = [];
  #handle: (frame: Frame) => void;

  constructor(channel: Duplex) {
    this.#channel = channel;
    this.closed = this.#close.promise;
    const { promise, resolve } = Promise.withResolvers<Frame>();
    this.first = promise;
    this.#handle = (frame) => {
      this.#handle = (early) => this.#early.push(early);
      resolve(frame);
    };
    channel.on('data', (bytes: Buffer) => this.#push(bytes));
    channel.on('error', (error) => this.close(gone(`its channel fails: ${error.message}`, error)));
    channel.on('end', () => this.close(gone('its channel was closed')));
    channel.on('close', () => this.close(gone('its channel was closed')));
  }

  /** Bytes that the channel has not taken yet. */
  get unsent(): number {
    return this.#channel.writableLength;
  }

  /** Sends a message. What nobody can receive any more is dropped: its end is told by `closed`. */
  send(message: HostMessage): void {
    const frame = encodeHostMessage(message);
    if (this.#channel.writable) this.#channel.write(frame);
  }

  /** Has all frames but the first handled. What is thrown there as a GuestError ends it all. */
  receive(handle: (frame: Frame) => void): void {
    this.#handle = handle;
    this.#guard(() => {
      for (const frame of this.#early.splice(0)) handle(frame);
    });
  }

  close(reason: GuestError): void {
    this.#handle = () => undefined;
    this.#close.resolve(reason);
    this.#channel.destroy();
  }

  #push(bytes: Buffer): void {
    this.#guard(() => {
      for (const frame of this.#decoder.push(bytes)) this.#handle(frame);
    });
  }

  #guard(task: () => void): void {
    try {
      task();
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      this.close(error);
    }
  }
}

/** The error of a channel that has ended. */
export function gone(why: string, cause?: Error): GuestError {
  const message = `Cannot talk to a guest: ${why}`;
  return new GuestError('GUEST_DISCONNECTED', message, cause === undefined ? {} : { cause });
}
