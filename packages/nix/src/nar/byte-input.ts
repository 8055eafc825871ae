/** Bytes that come in chunks, for a parser that wants whole strings. Holds back at most one string that straddles chunks. */
export class ByteInput {
  #chunk: Buffer = Buffer.alloc(0);
  /** How far the chunk is read, and how many bytes came before it. */
  #at = 0;
  #before = 0;
  /** The beginning of a string whose rest is in the next chunk. */
  readonly #partial: Buffer;
  #partialLength = 0;

  /** `maxLength`: the most bytes that {@link has} will be asked for. */
  constructor(maxLength: number) {
    this.#partial = Buffer.allocUnsafe(maxLength);
  }

  /** Where the next byte to be taken is, counted from the first that came. */
  get position(): number {
    return this.#before + this.#at - this.#partialLength;
  }

  /** Bytes that came so far, those of the chunk at hand aside that were not looked at. */
  get seen(): number {
    return this.#before + this.#at;
  }

  /** Whether nothing of the chunk at hand is left. */
  get isEmpty(): boolean {
    return this.#at >= this.#chunk.length;
  }

  /** The next chunk; the last one must have been read to its end. */
  push(bytes: Uint8Array): void {
    this.#before += this.#at;
    this.#chunk = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = 0;
  }

  /** Whether the next `length` bytes are there. If not, what there is of them is kept for when more comes. */
  has(length: number): boolean {
    if (this.#partialLength === 0 && this.#chunk.length - this.#at >= length) return true;
    const wanted = Math.min(length - this.#partialLength, this.#chunk.length - this.#at);
    if (wanted > 0) {
      this.#chunk.copy(this.#partial, this.#partialLength, this.#at, this.#at + wanted);
      this.#partialLength += wanted;
      this.#at += wanted;
    }
    return this.#partialLength >= length;
  }

  /** The 64-bit little-endian number that comes next, or undefined beyond what a double counts exactly. Needs {@link has}(8). */
  peekNumber(): number | undefined {
    const bytes = this.#partialLength === 0 ? this.#chunk : this.#partial;
    const at = this.#partialLength === 0 ? this.#at : 0;
    const high = bytes.readUInt32LE(at + 4);
    return high >= 0x200000 ? undefined : high * 0x1_0000_0000 + bytes.readUInt32LE(at);
  }

  /** Moves past the next `length` bytes. Needs {@link has} of the same length. */
  drop(length: number): void {
    if (this.#partialLength > 0) this.#partialLength = 0;
    else this.#at += length;
  }

  /** The next `length` bytes from `start` to `end`, valid until more is read; moves past all of them. Needs {@link has} of the same length. */
  take(length: number, start: number, end: number): Buffer {
    const isWhole = this.#partialLength === 0;
    const bytes = isWhole ? this.#chunk.subarray(this.#at + start, this.#at + end) : this.#partial.subarray(start, end);
    this.drop(length);
    return bytes;
  }

  /** The byte at `index` of those to come. Needs {@link has} of more than that. */
  peek(index: number): number | undefined {
    return this.#partialLength === 0 ? this.#chunk[this.#at + index] : this.#partial[index];
  }

  /** At most the next `length` bytes, as many as the chunk has. */
  takeSome(length: number): Buffer {
    const available = Math.min(length, this.#chunk.length - this.#at);
    return this.take(available, 0, available);
  }

  /** Moves past zeros, at most `length`; how many there were. */
  dropZeros(length: number): number {
    const end = Math.min(this.#at + length, this.#chunk.length);
    const start = this.#at;
    while (this.#at < end && this.#chunk[this.#at] === 0) this.#at++;
    return this.#at - start;
  }

  /** Whether `expected` comes next, whole in the chunk at hand; if so, moves past it. */
  skip(expected: Buffer): boolean {
    const chunk = this.#chunk;
    const at = this.#at;
    if (this.#partialLength > 0 || chunk.length - at < expected.length) return false;
    for (let i = 0; i < expected.length; i++) if (chunk[at + i] !== expected[i]) return false;
    this.#at = at + expected.length;
    return true;
  }
}
