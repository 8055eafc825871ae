import { GuestError } from '../guest-error.ts';
import { ByteWindow } from '../protocol/byte-window.ts';
import {
  MAX_PAYLOAD,
  type Output,
  OUTPUT_WINDOW,
  type OutputStream,
  type StreamPositions,
} from '../protocol/messages.ts';

const STREAMS: readonly OutputStream[] = ['stdout', 'stderr'];

/**
 * Output that has come and was not taken yet. A guest sends no more than {@link OUTPUT_WINDOW} bytes of a stream that are
 * not acknowledged, so that there is room for whatever may come, and control messages never wait behind it.
 */
export class IncomingOutput {
  readonly #windows: Readonly<Record<OutputStream, ByteWindow>>;
  readonly #acked: StreamPositions;
  #wake = Promise.withResolvers<void>();
  /** Nothing comes any more: because the program has ended, or the connection, which is an error. */
  #end: { error?: GuestError } | undefined;

  constructor(have: StreamPositions) {
    this.#acked = { ...have };
    this.#windows = {
      stdout: new ByteWindow(OUTPUT_WINDOW, have.stdout),
      stderr: new ByteWindow(OUTPUT_WINDOW, have.stderr),
    };
  }

  /** Takes what a guest has sent. Throws GUEST_PROTOCOL when it is not what comes next, or too early. */
  push({ stream, position, bytes }: Output): void {
    const window = this.#windows[stream];
    if (this.#end !== undefined) throw wrong(stream, 'it comes after the program has ended');
    if (position !== window.end) throw wrong(stream, `it is at byte ${position}, expected ${window.end}`);
    if (position + bytes.length > this.#acked[stream] + OUTPUT_WINDOW) {
      throw wrong(stream, `more than ${OUTPUT_WINDOW} bytes were not acknowledged`);
    }
    window.push(bytes);
    this.#wake.resolve();
  }

  /** Up to there output is safe. What was never seen cannot be. */
  ack(positions: StreamPositions): void {
    for (const stream of STREAMS) {
      const { from } = this.#windows[stream];
      if (positions[stream] > from || positions[stream] < this.#acked[stream]) {
        throw new TypeError(`Cannot acknowledge ${stream} up to ${positions[stream]}: it was read up to ${from}`);
      }
      this.#acked[stream] = positions[stream];
    }
  }

  end(error?: GuestError): void {
    this.#end ??= error === undefined ? {} : { error };
    this.#wake.resolve();
  }

  /** All output as it comes, in turns of both streams. Throws at the end of the connection, once all was taken. */
  async *read(): AsyncGenerator<Output, void, undefined> {
    for (;;) {
      this.#wake = Promise.withResolvers();
      let isIdle = true;
      for (const stream of STREAMS) {
        const window = this.#windows[stream];
        const position = window.from;
        const bytes = window.read(position, MAX_PAYLOAD);
        if (bytes.length === 0) continue;
        isIdle = false;
        window.dropTo(position + bytes.length);
        yield { stream, position, bytes };
      }
      if (!isIdle) continue;
      if (this.#end?.error !== undefined) throw this.#end.error;
      if (this.#end !== undefined) return;
      await this.#wake.promise;
    }
  }
}

function wrong(stream: OutputStream, why: string): GuestError {
  return new GuestError('GUEST_PROTOCOL', `Cannot understand output on ${stream} of a guest: ${why}`);
}
