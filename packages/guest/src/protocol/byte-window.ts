/** What a window takes at first; most programs print little. */
const FIRST_CAPACITY = 4096;

/**
 * The last bytes of a stream: a ring that takes bytes at its end until it is full, and drops them at its beginning. Memory:
 * at most its size, however small the pieces.
 */
export class ByteWindow {
  readonly #size: number;
  #ring: Buffer = Buffer.alloc(0);
  /** Positions in the stream of its first byte, and of the byte behind its last one. */
  #from: number;
  #end: number;

  constructor(size: number, position = 0) {
    this.#size = size;
    this.#from = position;
    this.#end = position;
  }

  /** Position of its first byte. */
  get from(): number {
    return this.#from;
  }

  /** Position of the byte behind its last one. */
  get end(): number {
    return this.#end;
  }

  /** Takes as many of the bytes as there is room for; gives how many. */
  push(bytes: Uint8Array): number {
    const taken = bytes.subarray(0, this.#size - (this.#end - this.#from));
    this.#reserve(this.#end - this.#from + taken.length);
    const at = this.#end % this.#ring.length || 0;
    const head = taken.subarray(0, this.#ring.length - at);
    this.#ring.set(head, at);
    this.#ring.set(taken.subarray(head.length), 0);
    this.#end += taken.length;
    return taken.length;
  }

  /** A copy of at most `limit` bytes at a position that is in it. */
  read(position: number, limit: number): Buffer {
    const length = Math.min(limit, this.#end - position);
    if (length <= 0) return Buffer.alloc(0);
    const at = position % this.#ring.length;
    const head = this.#ring.subarray(at, at + length);
    return Buffer.concat([head, this.#ring.subarray(0, length - head.length)]);
  }

  /** Drops what is before a position; of what is not there nothing happens. */
  dropTo(position: number): void {
    this.#from = Math.min(Math.max(this.#from, position), this.#end);
  }

  #reserve(length: number): void {
    if (length <= this.#ring.length) return;
    const capacity = Math.min(this.#size, Math.max(FIRST_CAPACITY, 2 ** Math.ceil(Math.log2(length))));
    const kept = this.read(this.#from, this.#end - this.#from);
    this.#ring = Buffer.alloc(capacity);
    const at = this.#from % capacity;
    const head = kept.subarray(0, capacity - at);
    this.#ring.set(head, at);
    this.#ring.set(kept.subarray(head.length), 0);
  }
}
