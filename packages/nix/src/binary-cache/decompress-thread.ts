import { BLOCK_SIZE, returnBlock, takeBlock } from '../threads/blocks.ts';
import { type Answer, type ThreadJob, ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';
import type { ZstdFrames } from './zstd-frames.ts';

/** Blocks of each kind, compressed and not, that are with the thread at a time. */
const MAX_BLOCKS_THERE = 3;

/** A decoder of node's: the name of what makes it, and its options. Its chunks must not be larger than a block. */
export interface Decoder {
  readonly create: 'createZstdDecompress' | 'createGunzip' | 'createBrotliDecompress';
  readonly options: { readonly chunkSize: number; readonly params?: Record<number, number> };
}

/** Compressed pieces one after the other in a block; `ends` is where in it each ends. */
export interface PieceBlock {
  readonly block: ArrayBuffer;
  readonly ends: readonly number[];
}

/** A block to be decompressed, a block to be filled, or the word that there is no more to decompress. */
type Request = { readonly input: PieceBlock } | { readonly output: ArrayBuffer } | { readonly isInputOver: true };

interface Outcome {
  readonly length: number;
  /** There is no more content, or what there is of it is broken. */
  readonly isOver: boolean;
  readonly error?: Error;
}

/** A block, filled or not needed any more. */
interface Output extends Outcome {
  readonly block: ArrayBuffer;
}

/** Most of the work is done by node's own threads: this one only spares the caller's the memory for every chunk, and its collection. */
const threads = new ThreadPool(1, decompressInThread);

/** Copies `source` into blocks, all full but the last. No piece holds bytes of two `frames`. */
export async function* pieceBlocks(
  source: AsyncIterable<Uint8Array>,
  frames: ZstdFrames | undefined,
): AsyncGenerator<PieceBlock, void> {
  let block = takeBlock();
  let ends: number[] = [];
  let used = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + BLOCK_SIZE - used);
      new Uint8Array(block).set(part, used);
      for (const end of frames?.ends(part) ?? []) ends.push(used + end);
      used += part.length;
      at += part.length;
      if (used < BLOCK_SIZE) continue;
      yield { block, ends: withEnd(ends, used) };
      block = takeBlock();
      ends = [];
      used = 0;
    }
  }
  frames?.finish();
  if (used > 0) yield { block, ends: withEnd(ends, used) };
  else returnBlock(block);
}

function withEnd(ends: number[], end: number): number[] {
  return ends.at(-1) === end ? ends : [...ends, end];
}

/** Whether more may follow. */
export function isFull({ ends }: PieceBlock): boolean {
  return ends.at(-1) === BLOCK_SIZE;
}

export function piecesOf({ block, ends }: PieceBlock): Uint8Array[] {
  return ends.map((end, index) => new Uint8Array(block).subarray(ends[index - 1] ?? 0, end));
}

/**
 * Decompresses `first` and `others`, which become the thread's, in another thread. A chunk is valid until the next one is asked for.
 * Throws what the decoder says, what `others` throws, or a {@link ThreadError}.
 */
export async function* decompressElsewhere(
  first: PieceBlock,
  others: AsyncIterable<PieceBlock>,
  decoder: Decoder,
): AsyncGenerator<Uint8Array, void> {
  using job = threads.startJob(decoder);
  const lent: Promise<Output>[] = [];
  const lend = (block: ArrayBuffer) => lent.push(ask(job, { output: block }, [block]));
  // Without the rest of what was to be decompressed there is nothing to wait for below.
  feed(job, first, others).catch((error: unknown) => job.cancel(error));
  for (let count = 0; count < MAX_BLOCKS_THERE; count++) lend(takeBlock());
  for (;;) {
    const output = await lent.shift();
    if (output === undefined) return;
    const { block, length, isOver, error } = output;
    if (error !== undefined) throw error;
    if (isOver) returnBlock(block);
    else {
      yield Buffer.from(block, 0, length);
      lend(block);
    }
  }
}

/** Hands all blocks over, as fast as they are decompressed. */
async function feed(job: ThreadJob, first: PieceBlock, others: AsyncIterable<PieceBlock>): Promise<void> {
  const lent: Promise<ArrayBuffer>[] = [ask(job, { input: first }, [first.block])];
  for await (const input of others) {
    lent.push(ask(job, { input }, [input.block]));
    const done = lent.length < MAX_BLOCKS_THERE ? undefined : await lent.shift();
    if (done !== undefined) returnBlock(done);
  }
  for (const done of lent) returnBlock(await done);
  await job.ask({ isInputOver: true } satisfies Request, []);
}

function ask<Result>(job: ThreadJob, request: Request, transfer: ArrayBuffer[]): Promise<Result> {
  const answer = job.ask<Result>(request, transfer);
  // Told to whoever waits for it; until somebody does, it is not unhandled.
  answer.catch(() => undefined);
  return answer;
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function decompressInThread({ create, options }: Decoder): ThreadWork<Request> {
  const decoder = process.getBuiltinModule('node:zlib')[create](options);
  const unfilled: ((content: Uint8Array, outcome: Outcome) => void)[] = [];
  let whenUnfilled = Promise.withResolvers<void>();
  let last: Outcome | undefined;

  // Content comes in order: when the end of its memory was copied, so was the rest. The collector would leave it for long.
  const release = ({ buffer, byteOffset, byteLength }: Uint8Array) => {
    if (buffer instanceof ArrayBuffer && byteLength > 0 && byteOffset + byteLength === buffer.byteLength)
      buffer.transfer(0);
  };
  const run = async () => {
    for await (const chunk of decoder as AsyncIterable<Buffer>) {
      while (unfilled.length === 0) await (whenUnfilled = Promise.withResolvers<void>()).promise;
      unfilled.shift()?.(chunk, { length: chunk.length, isOver: false });
    }
  };
  // One piece after the other: there may be very many, and each takes memory while it waits.
  const write = async ({ block, ends }: PieceBlock, previous: Promise<void>, answer: Answer) => {
    await previous;
    let start = 0;
    for (const end of ends) {
      const piece = new Uint8Array(block, start, end - start);
      await new Promise<void>((resolve) => void decoder.write(piece, () => resolve()));
      // What a destroyed decoder was given may still be read by one of node's threads.
      if (decoder.destroyed) return;
      start = end;
    }
    answer(block, [block]);
  };
  let written = Promise.resolve();
  const finish = (outcome: Outcome) => {
    last = outcome;
    for (const fill of unfilled.splice(0)) fill(new Uint8Array(), outcome);
  };
  run().then(
    () => finish({ length: 0, isOver: true }),
    (error: Error) => finish({ length: 0, isOver: true, error }),
  );

  return {
    handle(request, answer) {
      if ('isInputOver' in request) {
        decoder.end();
        return answer(undefined, []);
      }
      if ('output' in request) {
        const block = request.output;
        unfilled.push((content, outcome) => {
          new Uint8Array(block).set(content);
          release(content);
          answer({ block, ...outcome } satisfies Output, [block]);
        });
        return last === undefined ? whenUnfilled.resolve() : finish(last);
      }
      written = write(request.input, written, answer);
    },
    end: () => decoder.destroy(),
  };
}
