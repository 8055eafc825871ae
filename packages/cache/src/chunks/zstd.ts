import type { TransformOptions } from 'node:stream';
import { promisify } from 'node:util';
import { constants, createZstdCompress, type ZstdCompress, zstdDecompress, type ZstdOptions } from 'node:zlib';
import { MAX_CHUNK_SIZE } from './fastcdc.ts';
import { Semaphore } from '../tasks/semaphore.ts';

// The asynchronous form runs on the thread pool: the event loop stays free for hashing.
const decompressAsync = promisify(zstdDecompress);

/**
 * On store paths level 3, zstd's default, makes chunks 2 to 10 % smaller than level 1 and takes 1.5 times as long: more than
 * a network needs to carry the difference, from 200 Mbit/s on.
 */
const LEVEL = 1;
/** Contexts of a compressor, as many as libuv has threads: 2 to 3 MiB each. */
const CONTEXTS = 4;
/** Smallest output buffer that node:zlib allows. */
const MIN_OUTPUT = 64;
/** Frames are cut out of buffers of this size. */
const OUTPUT_SIZE = 1 << 20;
/** Above the longest frame of a chunk: zstd adds less than 1 % to what it cannot shrink. */
const LONGEST_FRAME = 2 * MAX_CHUNK_SIZE;

const CONTEXT: ZstdOptions & Pick<TransformOptions, 'readableHighWaterMark'> = {
  params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
  chunkSize: OUTPUT_SIZE,
  // Each write makes a whole frame, which is there to be read by the time the write is done.
  flush: constants.ZSTD_e_end,
  readableHighWaterMark: LONGEST_FRAME,
};

/**
 * Compresses chunks on the thread pool, each into a zstd frame of its own. The contexts are used again: making one for each
 * chunk takes up to a quarter of the time, and megabytes for the garbage collector.
 */
export class Compressor implements Disposable {
  readonly #free = new Semaphore(CONTEXTS);
  readonly #idle: ZstdCompress[] = [];
  readonly #all: ZstdCompress[] = [];

  /** One zstd frame that holds `bytes`, at most {@link MAX_CHUNK_SIZE} of them. */
  async compress(bytes: Uint8Array): Promise<Buffer> {
    using _ = await this.#free.acquire(1);
    const context = this.#idle.pop() ?? this.#newContext();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    context.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(error)));
    await promise;
    const frame = context.read() as Buffer | null;
    this.#idle.push(context);
    return frame ?? Buffer.alloc(0);
  }

  [Symbol.dispose](): void {
    for (const context of this.#all) context.destroy();
  }

  #newContext(): ZstdCompress {
    const context = createZstdCompress(CONTEXT);
    // The write that failed tells.
    context.on('error', () => undefined);
    this.#all.push(context);
    return context;
  }
}

/**
 * The content of one zstd frame.
 * @param size - how much it must be at most; anything longer throws before it is decoded, so a bomb costs nothing.
 */
export async function decompress(frame: Uint8Array, size: number): Promise<Uint8Array> {
  // One byte more than needed: with a buffer that is exactly full, zlib asks for another one.
  return decompressAsync(frame, { chunkSize: Math.max(MIN_OUTPUT, size + 1), maxOutputLength: Math.max(1, size) });
}
