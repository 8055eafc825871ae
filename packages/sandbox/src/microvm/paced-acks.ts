import { OUTPUT_WINDOW } from '@nex-nix/guest';
import type { StreamName } from '../logs/log-segments.ts';
import type { LogPosition } from '../sandbox.ts';

/** Between two acknowledgements of a program that is slowed down. */
const STEP_MS = 100;

/** A program that prints many small pieces is not worth an acknowledgement each, which its guest has to read. */
const DELAY_MS = 20;

/** As much is acknowledged at once: the guest's window is not to be full when its program may go on. */
const AT_ONCE = OUTPUT_WINDOW / 8;

/**
 * Acknowledges output no faster than a program may print. The guest keeps what is not acknowledged, up to its window, and
 * then lets the program wait: output is slowed down and none is lost.
 */
export class PacedAcks implements Disposable {
  readonly #send: (positions: LogPosition) => void;
  /** Bytes a second of each stream; Infinity: at once. */
  readonly #rate: number;
  readonly #written: LogPosition;
  readonly #acknowledged: LogPosition;
  /** Bytes of each stream that may be acknowledged at once; at most those of a second. */
  readonly #credit: LogPosition;
  #counted = performance.now();
  #timer: NodeJS.Timeout | undefined;
  /** Whether the program has printed more than it may. */
  #isPacing = false;

  /** @param from What the guest knows to be safe. */
  constructor(send: (positions: LogPosition) => void, { from, rate = Infinity }: { from: LogPosition; rate?: number }) {
    this.#send = send;
    this.#rate = rate;
    this.#written = { ...from };
    this.#acknowledged = { ...from };
    this.#credit = { stdout: rate, stderr: rate };
  }

  /** A stream is on disk up to a position. */
  written(stream: StreamName, end: number): void {
    this.#written[stream] = Math.max(end, this.#written[stream]);
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#step(), DELAY_MS);
    if (this.#isPacing || this.#written[stream] - this.#acknowledged[stream] < AT_ONCE) return;
    clearTimeout(this.#timer);
    this.#step();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #step(): void {
    const now = performance.now();
    const earned = this.#rate === Infinity ? 0 : ((now - this.#counted) / 1000) * this.#rate;
    this.#counted = now;
    let moved = false;
    for (const stream of ['stdout', 'stderr'] as const) {
      this.#credit[stream] = Math.min(this.#rate, this.#credit[stream] + earned);
      const step = Math.floor(Math.min(this.#credit[stream], this.#written[stream] - this.#acknowledged[stream]));
      this.#credit[stream] -= step;
      this.#acknowledged[stream] += step;
      moved ||= step > 0;
    }
    if (moved) this.#send({ ...this.#acknowledged });
    const waits = (['stdout', 'stderr'] as const).some((name) => this.#written[name] > this.#acknowledged[name]);
    this.#isPacing = waits;
    this.#timer = waits ? setTimeout(() => this.#step(), STEP_MS) : undefined;
  }
}
