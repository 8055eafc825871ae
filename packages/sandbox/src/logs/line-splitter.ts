/** Longer lines are handed out in pieces of this size. */
export const MAX_LINE_BYTES = 64 * 1024;

const NEWLINE = 0x0a;

export interface Line {
  line: Uint8Array;
  /** Offset in the stream of what follows. */
  end: number;
}

/** Makes lines of stretches of a stream. Memory: one unfinished line. */
export class LineSplitter {
  /** Offset of the first byte that no line handed out so far contains. */
  #position: number;
  #pending: Buffer = Buffer.alloc(0);

  constructor(position: number) {
    this.#position = position;
  }

  /** Offset of the byte that is to come next. */
  get next(): number {
    return this.#position + this.#pending.length;
  }

  /** The lines that the next bytes of the stream complete. */
  push(bytes: Uint8Array): Line[] {
    let data = Buffer.concat([this.#pending, bytes]);
    const lines: Line[] = [];
    for (;;) {
      const newline = data.indexOf(NEWLINE);
      const end = newline === -1 ? data.length : newline;
      if (end > MAX_LINE_BYTES) {
        lines.push(this.#take(data, MAX_LINE_BYTES));
        data = data.subarray(MAX_LINE_BYTES);
      } else if (newline !== -1) {
        lines.push(this.#take(data, end, 1));
        data = data.subarray(end + 1);
      } else {
        this.#pending = data;
        return lines;
      }
    }
  }

  /** The unfinished last line; for when nothing more will come. */
  rest(): Line | undefined {
    if (this.#pending.length === 0) return undefined;
    const line = this.#take(this.#pending, this.#pending.length);
    this.#pending = Buffer.alloc(0);
    return line;
  }

  /** Goes on further behind. Returns how many bytes no line will contain, those of the unfinished line included. */
  skipTo(position: number): number {
    const skipped = position - this.#position;
    this.#position = position;
    this.#pending = Buffer.alloc(0);
    return skipped;
  }

  #take(data: Buffer, length: number, newline: 0 | 1 = 0): Line {
    this.#position += length + newline;
    // A copy: whoever keeps one line must not keep the whole read with it.
    return { line: new Uint8Array(data.subarray(0, length)), end: this.#position };
  }
}
