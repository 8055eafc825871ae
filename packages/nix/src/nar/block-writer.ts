import { BLOCK_SIZE, claimBlock, copyToBlock, returnBlock, takeBlock } from '../threads/blocks.ts';

/** How many blocks may be in use at a time: more than anyone keeps before beginning to use them. */
const MAX_IN_USE = 8;

/**
 * Uses the first `length` bytes of a block, which several threads may read; it is free again when the promise is fulfilled. What is
 * thrown, whoever writes gets at once.
 */
export type UseBlock = (block: SharedArrayBuffer, length: number) => Promise<unknown>;

/** Has pieces of any size used in blocks: copied together, or as they are if they came in blocks. */
export class BlockWriter {
  readonly #use: UseBlock;
  #block: SharedArrayBuffer | undefined;
  #used = 0;
  readonly #inUse: Promise<void>[] = [];

  constructor(use: UseBlock) {
    this.#use = use;
  }

  /** Copies or claims `bytes`: they may change once the promise is fulfilled. Waits as long as too many blocks are in use. */
  async write(bytes: Uint8Array): Promise<void> {
    const claimed = claimBlock(bytes);
    if (claimed === undefined) return this.#copy(bytes);
    this.flush();
    await this.#makeRoom();
    this.#begin(claimed, bytes.length);
  }

  /** Has the last block used, full or not; does not wait for that. */
  flush(): void {
    const block = this.#block;
    if (block === undefined) return;
    this.#block = undefined;
    this.#begin(block, this.#used);
  }

  async #copy(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (this.#block === undefined) {
        await this.#makeRoom();
        this.#block = takeBlock();
        this.#used = 0;
      }
      const part = bytes.subarray(at, at + BLOCK_SIZE - this.#used);
      copyToBlock(part, this.#block, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === BLOCK_SIZE) this.flush();
    }
  }

  #begin(block: SharedArrayBuffer, length: number): void {
    const done = takeBack(block, this.#use(block, length));
    // Told to whoever waits for the block; until somebody does, it is not unhandled.
    done.catch(() => undefined);
    this.#inUse.push(done);
  }

  async #makeRoom(): Promise<void> {
    if (this.#inUse.length >= MAX_IN_USE) await this.#inUse.shift();
  }
}

async function takeBack(block: SharedArrayBuffer, used: Promise<unknown>): Promise<void> {
  await used;
  returnBlock(block);
}
