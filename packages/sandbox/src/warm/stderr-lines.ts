import type { Readable } from 'node:stream';

/** Longer lines come in pieces, as those of logs do. */
const MAX_LINE = 64 * 1024;
const NEWLINE = 10;
const HEAD = 4096;

/** Cuts what a program prints into lines, and reads no faster than it may print. */
export class StderrLines {
  /** The first of it, for what is printed when no program comes to run. */
  head = Buffer.alloc(0);
  /** Called for each line, without its newline. */
  onLine: (line: Uint8Array) => void = () => undefined;
  readonly #stream: Readable;
  readonly #rate: number;
  #rest: Buffer[] = [];
  #restLength = 0;
  /** Bytes that may be read at once; filled up again with time. */
  #credit: number;
  #counted = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** @param rate Bytes a second, for long. */
  constructor(stream: Readable, rate = Infinity) {
    this.#stream = stream;
    this.#rate = rate;
    this.#credit = rate;
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    // Its end is told by the end of the process.
    stream.on('error', () => undefined);
  }

  /** Reads what is left without waiting: nobody prints any more. */
  hurry(): void {
    clearTimeout(this.#timer);
    this.#credit = Infinity;
    this.#stream.resume();
  }

  /** Gives the last line if it has no newline. */
  end(): void {
    if (this.#restLength > 0) this.#give();
  }

  #take(chunk: Buffer): void {
    if (this.head.length < HEAD) this.head = Buffer.concat([this.head, chunk]).subarray(0, HEAD);
    for (let start = 0; start < chunk.length;) {
      const newline = chunk.indexOf(NEWLINE, start);
      const end = Math.min(newline === -1 ? chunk.length : newline, start + MAX_LINE - this.#restLength);
      this.#rest.push(chunk.subarray(start, end));
      this.#restLength += end - start;
      if (end === newline || this.#restLength === MAX_LINE) this.#give();
      start = end === newline ? end + 1 : end;
    }
    this.#pay(chunk.length);
  }

  #give(): void {
    const line = Buffer.concat(this.#rest);
    this.#rest = [];
    this.#restLength = 0;
    this.onLine(line);
  }

  #pay(bytes: number): void {
    const now = performance.now();
    const earned = ((now - this.#counted) / 1000) * this.#rate;
    this.#credit = Math.min(this.#rate, this.#credit + earned) - bytes;
    this.#counted = now;
    if (this.#credit >= 0 || this.#rate === Infinity) return;
    this.#stream.pause();
    this.#timer = setTimeout(() => this.#stream.resume(), (-this.#credit / this.#rate) * 1000);
  }
}
