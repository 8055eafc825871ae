/** Size of the pieces in which threads share large contents, in bytes: to wake a thread takes as long as to write a tenth of one. */
export const BLOCK_SIZE = 1024 * 1024;
const MAX_SPARE = 32;

const spare: SharedArrayBuffer[] = [];
/** Chunks whose blocks nobody has claimed. */
const lent = new WeakSet<Uint8Array>();

/** A block with any content. Blocks are used again and again: to make one anew takes longer than to fill it. */
export function takeBlock(): SharedArrayBuffer {
  return spare.pop() ?? new SharedArrayBuffer(BLOCK_SIZE);
}

/** Gives back a block that nobody uses any more. */
export function returnBlock(block: SharedArrayBuffer): void {
  if (spare.length < MAX_SPARE) spare.push(block);
}

/** Copies `bytes`, at least one, to where in `block` they shall begin. */
export function copyToBlock(bytes: Uint8Array, block: SharedArrayBuffer, start: number): void {
  // V8's `set()` copies to shared memory word by word, which takes five times as long.
  Buffer.from(block, start, bytes.length).fill(bytes);
}

/** The first `length` bytes of a block as a chunk of a stream, which is spared a copy: its reader may claim the block. */
export function lendBlock(block: SharedArrayBuffer, length: number): Buffer {
  const chunk = Buffer.from(block, 0, length);
  lent.add(chunk);
  return chunk;
}

/**
 * The block of a chunk that was lent, for the first who asks: the reader, before it asks for the next chunk, or else whoever lent it,
 * after that. It is the caller's from then on, with the chunk at its beginning. Undefined for the second, and for chunks of other kinds.
 */
export function claimBlock(chunk: Uint8Array): SharedArrayBuffer | undefined {
  return lent.delete(chunk) ? (chunk.buffer as SharedArrayBuffer) : undefined;
}
