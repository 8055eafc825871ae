/** Bytes in memory of their own, which {@link releaseMemory} can give back. */
export function ownMemory(length: number): Buffer {
  // Never a piece of the pool that small buffers share.
  return Buffer.allocUnsafeSlow(length);
}

/** What zlib may leave of the memory that a result has for itself. */
const SPARE = 1;

/**
 * Gives memory back at once: waiting for the garbage collector to find it costs as much time as hashing it. Nobody may use
 * `bytes` any more, no thread either. Bytes that are a part of something larger are left alone.
 */
export function releaseMemory({ buffer, length }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength - length <= SPARE) buffer.transfer(0);
}
