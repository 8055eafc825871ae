import { StringDecoder } from 'node:string_decoder';

/** What is longer is cut: nobody reads it, and a program that never ends its line must not fill the memory. In characters. */
const LONGEST_LINE = 16 * 1024;

/** Takes a stream of bytes apart into lines. `end` gives what was left without an end of line. */
export class Lines {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Uint8Array): void {
    this.#take(this.#decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)));
  }

  end(): void {
    this.#take(this.#decoder.end());
    if (this.#rest !== '') this.#give(this.#rest);
    this.#rest = '';
  }

  #take(text: string): void {
    const [first = '', ...others] = text.split('\n');
    // One character more than is shown tells that there was more.
    this.#rest = (this.#rest + first).slice(0, LONGEST_LINE + 1);
    for (const next of others) {
      this.#give(this.#rest);
      this.#rest = next.slice(0, LONGEST_LINE + 1);
    }
  }

  #give(line: string): void {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    this.#onLine(text.length > LONGEST_LINE ? `${text.slice(0, LONGEST_LINE)}…` : text);
  }
}
