import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { BLOCK_SIZE, claimBlock, lendBlock, returnBlock, takeBlock } from '../threads/blocks.ts';
import type { NarOptions } from './nar-options.ts';

/** Reading is synchronous, which is fastest; after this many ms others get their turn. */
const TIME_SLICE = 5;

/**
 * What is in a file, in chunks of 1 MiB: for {@link unpackNar} and whatever else reads a NAR, which share the memory of a chunk with
 * their threads instead of copying it if `reuseChunks` is set.
 *
 * @param file its path, or its descriptor, which is closed in the end.
 * @throws the errors of `node:fs`, and the reason of the signal.
 */
export async function* fileChunks(file: string | number, options: NarOptions = {}): AsyncGenerator<Buffer, void> {
  const { signal, reuseChunks = false } = options;
  const fd = typeof file === 'string' ? openSync(file, 'r') : file;
  try {
    for (let sliceEnd = performance.now() + TIME_SLICE; ;) {
      signal?.throwIfAborted();
      const chunk = reuseChunks ? readBlock(fd) : readBuffer(fd);
      if (chunk === undefined) return;
      yield chunk;
      const unclaimed = claimBlock(chunk);
      if (unclaimed !== undefined) returnBlock(unclaimed);
      if (performance.now() > sliceEnd) {
        await setImmediate();
        sliceEnd = performance.now() + TIME_SLICE;
      }
    }
  } finally {
    closeSync(fd);
  }
}

function readBlock(fd: number): Buffer | undefined {
  const block = takeBlock();
  const length = readSync(fd, Buffer.from(block));
  if (length > 0) return lendBlock(block, length);
  returnBlock(block);
  return undefined;
}

function readBuffer(fd: number): Buffer | undefined {
  const buffer = Buffer.allocUnsafeSlow(BLOCK_SIZE);
  const length = readSync(fd, buffer);
  return length > 0 ? buffer.subarray(0, length) : undefined;
}
