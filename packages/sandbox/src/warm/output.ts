import type { Readable } from 'node:stream';

/** What a program prints on stdout, up to a limit. */
export class Output {
  /** Resolves with the first byte of what is skipped. */
  readonly skipped: Promise<number | undefined>;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  #max = Infinity;
  #onTooMuch: () => void = () => undefined;

  /** @param skip Bytes at the beginning that are somebody else's. */
  constructor(stream: Readable, skip: number) {
    const skipped = Promise.withResolvers<number | undefined>();
    this.skipped = skipped.promise;
    let left = skip;
    stream.on('data', (chunk: Buffer) => {
      if (left > 0) skipped.resolve(chunk[0]);
      this.#take(chunk.subarray(left));
      left = Math.max(0, left - chunk.length);
    });
    // Its end is told by the end of the process.
    stream.on('error', () => undefined);
  }

  /** Called once, when there are more than `max` bytes; what comes then is dropped. */
  limit(max: number, onTooMuch: () => void): void {
    this.#max = max;
    this.#onTooMuch = onTooMuch;
    if (this.#length > max) onTooMuch();
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  #take(chunk: Buffer): void {
    const before = this.#length;
    this.#length += chunk.length;
    if (this.#length <= this.#max) this.#chunks.push(chunk);
    else if (before <= this.#max) this.#onTooMuch();
  }
}
