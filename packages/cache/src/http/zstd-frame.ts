import { ownMemory } from '../tasks/own-memory.ts';

/** Bytes of a raw block at most: `Block_Maximum_Size` of RFC 8878, section 3.1.1.2.4. */
const BLOCK_SIZE = 128 * 1024;
const BLOCK_HEADER_SIZE = 3;
/** Magic number, descriptor, content size. */
const FRAME_HEADER_SIZE = 9;
const MAGIC = 0xfd2fb528;
/** The content size takes four bytes, and the content is the window. */
const DESCRIPTOR = 0b1010_0000;

/** A zstd frame (RFC 8878) that holds `bytes`, at least one, as they are. */
export function rawFrame(bytes: Uint8Array): Buffer {
  const blocks = Math.ceil(bytes.length / BLOCK_SIZE);
  const frame = ownMemory(FRAME_HEADER_SIZE + blocks * BLOCK_HEADER_SIZE + bytes.length);
  frame.writeUInt32LE(MAGIC, 0);
  frame.writeUInt8(DESCRIPTOR, 4);
  let at = frame.writeUInt32LE(bytes.length, 5);
  for (let start = 0; start < bytes.length; start += BLOCK_SIZE) {
    const block = bytes.subarray(start, start + BLOCK_SIZE);
    const isLast = start + BLOCK_SIZE >= bytes.length ? 1 : 0;
    at = frame.writeUIntLE((block.length << 3) | isLast, at, BLOCK_HEADER_SIZE);
    frame.set(block, at);
    at += block.length;
  }
  return frame;
}
