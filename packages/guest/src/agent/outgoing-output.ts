import { ByteWindow } from '../protocol/byte-window.ts';
import { type Output, OUTPUT_WINDOW, type OutputStream, type StreamPositions } from '../protocol/messages.ts';

/** Bytes of output in one frame: no more, so that no answer waits long behind it. */
const PIECE = 64 * 1024;

/** What was written to one stream and is not acknowledged. */
interface Kept {
  window: ByteWindow;
  /** Up to there it was given to the host that there is now. */
  sent: number;
  /** Resolved when there is room again. */
  room: PromiseWithResolvers<void>;
}

/** The program's output until it is safe with a host. Takes memory for {@link OUTPUT_WINDOW} bytes of each stream. */
export class OutgoingOutput {
  readonly #streams: Readonly<Record<OutputStream, Kept>>;
  readonly #wake: () => void;
  /** Whose turn it is. */
  #turn: OutputStream = 'stdout';

  /** `wake`: called when there is something to send. */
  constructor(wake: () => void) {
    this.#wake = wake;
    const kept = () => ({ window: new ByteWindow(OUTPUT_WINDOW), sent: 0, room: Promise.withResolvers<void>() });
    this.#streams = { stdout: kept(), stderr: kept() };
  }

  /** Whether all that was written was given to the host. */
  get isSent(): boolean {
    return Object.values(this.#streams).every(({ window, sent }) => sent === window.end);
  }

  /** Keeps bytes; resolves when there is room for more. */
  async write(stream: OutputStream, bytes: Uint8Array): Promise<void> {
    const kept = this.#streams[stream];
    let rest = bytes;
    for (;;) {
      rest = rest.subarray(kept.window.push(rest));
      this.#wake();
      if (rest.length === 0 && kept.window.end - kept.window.from < OUTPUT_WINDOW) return;
      await kept.room.promise;
    }
  }

  /** What comes next, in turns of both streams; undefined when all was sent. */
  next(): Output | undefined {
    for (const stream of [this.#turn, other(this.#turn)]) {
      const kept = this.#streams[stream];
      const position = kept.sent;
      const bytes = kept.window.read(position, PIECE);
      if (bytes.length === 0) continue;
      kept.sent += bytes.length;
      this.#turn = other(stream);
      return { stream, position, bytes };
    }
    return undefined;
  }

  /** Forgets what a host has for certain. */
  ack(positions: StreamPositions): void {
    for (const [stream, kept] of this.#each()) {
      kept.window.dropTo(Math.min(positions[stream], kept.sent));
      kept.room.resolve();
      kept.room = Promise.withResolvers();
    }
  }

  /** Begins anew for another host, behind what that one has. Gives where that is, as far as it can be. */
  restart(have: StreamPositions): StreamPositions {
    for (const [, kept] of this.#each()) kept.sent = kept.window.end;
    this.ack(have);
    for (const [, kept] of this.#each()) kept.sent = kept.window.from;
    return { stdout: this.#streams.stdout.window.from, stderr: this.#streams.stderr.window.from };
  }

  #each(): [OutputStream, Kept][] {
    return Object.entries(this.#streams) as [OutputStream, Kept][];
  }
}

function other(stream: OutputStream): OutputStream {
  return stream === 'stdout' ? 'stderr' : 'stdout';
}
