/** Size of the pieces in which large contents are handed to other threads, in bytes. */
export const BLOCK_SIZE = 512 * 1024;
const MAX_SPARE = 32;

const spare: ArrayBuffer[] = [];

/** A block with any content. Blocks are used again and again: to make one anew takes longer than to fill it. */
export function takeBlock(): ArrayBuffer {
  return spare.pop() ?? new ArrayBuffer(BLOCK_SIZE);
}

/** Gives back a block that nobody uses any more. */
export function returnBlock(block: ArrayBuffer): void {
  if (spare.length < MAX_SPARE) spare.push(block);
}
