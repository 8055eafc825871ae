/** Why data is no bzip2. */
export class Bzip2Error extends Error {}

/** Thrown by {@link BitReader} where the bytes at hand end. */
const END = new Error('it ends too early');

/** Compressed bytes of one block that are looked at; a well-made block of 900 kB needs far less. */
const BLOCK_BYTES_MAX = 4 * 1024 * 1024;
/** Enough for nearly all blocks. */
const READ_AHEAD = 1024 * 1024;

/** Bytes as they come, and readers that go back to where they began when there are not enough yet. */
export class BitInput {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes: Uint8Array = new Uint8Array(0);
  #bit = 0;
  #isOver = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async decode<T>(read: (bits: BitReader) => T): Promise<T> {
    for (let wanted = READ_AHEAD; ; wanted *= 2) {
      await this.#fill(Math.min(wanted, BLOCK_BYTES_MAX));
      const bits = new BitReader(this.#bytes, this.#bit);
      try {
        const value = read(bits);
        this.#drop(bits.position);
        return value;
      } catch (error) {
        if (error !== END) throw error;
        if (this.#isOver) throw new Bzip2Error('it ends in the middle of a stream');
        if (wanted >= BLOCK_BYTES_MAX) throw new Bzip2Error('a block is too large');
      }
    }
  }

  alignToByte(): void {
    this.#drop(Math.ceil(this.#bit / 8) * 8);
  }

  async hasMore(): Promise<boolean> {
    await this.#fill(1);
    return this.#bytes.length > 0;
  }

  #drop(position: number): void {
    this.#bytes = this.#bytes.subarray(position >>> 3);
    this.#bit = position & 7;
  }

  async #fill(size: number): Promise<void> {
    const chunks = [this.#bytes];
    let have = this.#bytes.length;
    while (have < size && !this.#isOver) {
      const next = await this.#source.next();
      if (next.done === true) this.#isOver = true;
      else {
        chunks.push(next.value);
        have += next.value.length;
      }
    }
    if (chunks.length > 1) this.#bytes = Buffer.concat(chunks);
  }
}

export class BitReader {
  readonly #bytes: Uint8Array;
  position: number;

  constructor(bytes: Uint8Array, position: number) {
    this.#bytes = bytes;
    this.position = position;
  }

  bit(): number {
    const byte = this.#bytes[this.position >>> 3];
    if (byte === undefined) throw END;
    return (byte >>> (7 - (this.position++ & 7))) & 1;
  }

  /** The next 20 bits, zeros behind the end. */
  peek20(): number {
    const bytes = this.#bytes;
    const at = this.position >>> 3;
    const word =
      ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
    return (word << (this.position & 7)) >>> 12;
  }

  skip(count: number): void {
    this.position += count;
    if (this.position > this.#bytes.length * 8) throw END;
  }

  /** An unsigned number of up to 32 bits. */
  read(count: number): number {
    let value = 0;
    for (let left = count; left > 0;) {
      const byte = this.#bytes[this.position >>> 3];
      if (byte === undefined) throw END;
      const room = 8 - (this.position & 7);
      const take = Math.min(room, left);
      value = value * 2 ** take + ((byte >>> (room - take)) & ((1 << take) - 1));
      this.position += take;
      left -= take;
    }
    return value;
  }
}
