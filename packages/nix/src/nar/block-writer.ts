/** Size of the pieces of a NAR that threads share, in bytes: to wake a thread takes as long as to write a tenth of one. */
export const BLOCK_SIZE = 1024 * 1024;
/** How many blocks may be in use at a time: more than anyone keeps before beginning to use them. */
const MAX_LENT = 8;
const MAX_SPARE = 16;

const spare: SharedArrayBuffer[] = [];

/**
 * Uses the first `length` bytes of a block, which several threads may read; it is free again when the promise is fulfilled. What is
 * thrown, whoever writes gets at once.
 */
export type UseBlock = (block: SharedArrayBuffer, length: number) => Promise<unknown>;

/** Copies pieces of any size into blocks, which are used again and again: to make one anew takes longer than to fill it. */
export class BlockWriter {
  readonly #use: UseBlock;
  #block: SharedArrayBuffer | undefined;
  #used = 0;
  readonly #lent: Promise<void>[] = [];

  constructor(use: UseBlock) {
    this.#use = use;
  }

  /** Copies `bytes`: they may change once the promise is fulfilled. Waits as long as too many blocks are in use. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      this.#block ??= await this.#takeBlock();
      const part = bytes.subarray(at, at + BLOCK_SIZE - this.#used);
      copyToBlock(part, this.#block, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === BLOCK_SIZE) this.flush();
    }
  }

  /** Has the last block used, full or not; does not wait for that. */
  flush(): void {
    const block = this.#block;
    const length = this.#used;
    if (block === undefined) return;
    this.#block = undefined;
    this.#used = 0;
    const done = takeBack(block, this.#use(block, length));
    // Told to whoever waits for the block; until somebody does, it is not unhandled.
    done.catch(() => undefined);
    this.#lent.push(done);
  }

  async #takeBlock(): Promise<SharedArrayBuffer> {
    if (this.#lent.length >= MAX_LENT) await this.#lent.shift();
    return takeSharedBlock();
  }
}

/** Copies `bytes`, at least one, to where in `block` they shall begin. */
export function copyToBlock(bytes: Uint8Array, block: SharedArrayBuffer, start: number): void {
  // V8's `set()` copies to shared memory word by word, which takes five times as long.
  Buffer.from(block, start, bytes.length).fill(bytes);
}

/** A block with any content. */
export function takeSharedBlock(): SharedArrayBuffer {
  return spare.pop() ?? new SharedArrayBuffer(BLOCK_SIZE);
}

/** Gives back a block that nobody uses any more. */
export function returnSharedBlock(block: SharedArrayBuffer): void {
  if (spare.length < MAX_SPARE) spare.push(block);
}

async function takeBack(block: SharedArrayBuffer, used: Promise<unknown>): Promise<void> {
  await used;
  returnSharedBlock(block);
}
