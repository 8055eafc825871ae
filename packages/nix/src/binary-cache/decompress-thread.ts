import { BLOCK_SIZE, claimBlock, copyToBlock, lendBlock, returnBlock, takeBlock } from '../threads/blocks.ts';
import { type Answer, type ThreadJob, ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';
import type { ZstdFrames } from './zstd-frames.ts';

/** Blocks of each kind, compressed and not, that are with the thread at a time. */
const MAX_BLOCKS_THERE = 3;

/** A decoder of node's: the name of what makes it, and its options. */
export interface Decoder {
  readonly create: 'createZstdDecompress' | 'createGunzip' | 'createBrotliDecompress';
  readonly options: { readonly chunkSize: number; readonly params?: Record<number, number> };
}

/** Compressed pieces one after the other in a block; `ends` is where in it each ends. */
export interface PieceBlock {
  readonly block: SharedArrayBuffer;
  readonly ends: readonly number[];
}

/** A block to be decompressed, a block to be filled, or the word that there is no more to decompress. */
type Request = { readonly input: PieceBlock } | { readonly output: SharedArrayBuffer } | { readonly isInputOver: true };

/** What became of a block that was to be filled. */
interface Outcome {
  readonly length: number;
  /** There is no more content, or what there is of it is broken. */
  readonly isOver: boolean;
  readonly error?: Error;
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
      copyToBlock(part, block, used);
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
 * Decompresses `first` and `others`, whose blocks it returns, in another thread. A chunk is valid until the next one is asked for, if its
 * block is not claimed. Throws what the decoder says, what `others` throws, or a {@link ThreadError}.
 */
export async function* decompressElsewhere(
  first: PieceBlock,
  others: AsyncIterable<PieceBlock>,
  { create, options }: Decoder,
): AsyncGenerator<Uint8Array, void> {
  // What a decoder makes at a time costs it a new piece of memory and a way to and fro between threads.
  using job = threads.startJob({ create, options: { ...options, chunkSize: BLOCK_SIZE } });
  const there: { readonly block: SharedArrayBuffer; readonly outcome: Promise<Outcome> }[] = [];
  const give = (block: SharedArrayBuffer) => there.push({ block, outcome: ask(job, { output: block }) });
  // Without the rest of what was to be decompressed there is nothing to wait for below.
  feed(job, first, others).catch((error: unknown) => job.cancel(error));
  for (let count = 0; count < MAX_BLOCKS_THERE; count++) give(takeBlock());
  for (let next = there.shift(); next !== undefined; next = there.shift()) {
    const { length, isOver, error } = await next.outcome;
    if (error !== undefined) throw error;
    if (isOver) returnBlock(next.block);
    else {
      const chunk = lendBlock(next.block, length);
      yield chunk;
      give(claimBlock(chunk) ?? takeBlock());
    }
  }
}

/** Shares all blocks, as fast as they are decompressed. */
async function feed(job: ThreadJob, first: PieceBlock, others: AsyncIterable<PieceBlock>): Promise<void> {
  const there: { readonly block: SharedArrayBuffer; readonly done: Promise<void> }[] = [];
  const give = (input: PieceBlock) => there.push({ block: input.block, done: ask(job, { input }) });
  const takeBack = async () => {
    const next = there.shift();
    await next?.done;
    if (next !== undefined) returnBlock(next.block);
  };
  give(first);
  for await (const input of others) {
    give(input);
    if (there.length >= MAX_BLOCKS_THERE) await takeBack();
  }
  while (there.length > 0) await takeBack();
  await job.ask({ isInputOver: true } satisfies Request, []);
}

function ask<Result>(job: ThreadJob, request: Request): Promise<Result> {
  const answer = job.ask<Result>(request, []);
  // Told to whoever waits for it; until somebody does, it is not unhandled.
  answer.catch(() => undefined);
  return answer;
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function decompressInThread({ create, options }: Decoder): ThreadWork<Request> {
  const decoder = process.getBuiltinModule('node:zlib')[create](options);
  /** The first of them may hold content already. */
  const unfilled: { readonly block: SharedArrayBuffer; readonly answer: Answer }[] = [];
  let whenUnfilled = Promise.withResolvers<void>();
  let used = 0;
  let last: Outcome | undefined;

  const tell = (outcome: Outcome) => unfilled.shift()?.answer(outcome, []);
  const tellContent = () => {
    if (used > 0) tell({ length: used, isOver: false });
    used = 0;
  };
  // Content comes in order: when the end of its memory was copied, so was the rest. The collector would leave it for long.
  const release = ({ buffer, byteOffset, byteLength }: Uint8Array) => {
    if (buffer instanceof ArrayBuffer && byteLength > 0 && byteOffset + byteLength === buffer.byteLength)
      buffer.transfer(0);
  };
  const run = async () => {
    for await (const chunk of decoder as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length;) {
        const [next] = unfilled;
        if (next === undefined) {
          await (whenUnfilled = Promise.withResolvers<void>()).promise;
          continue;
        }
        const part = chunk.subarray(at, at + next.block.byteLength - used);
        // V8's `set()` would take five times as long.
        Buffer.from(next.block, used, part.length).fill(part);
        used += part.length;
        at += part.length;
        if (used === next.block.byteLength) tellContent();
      }
      release(chunk);
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
    answer(undefined, []);
  };
  let written = Promise.resolve();
  const finish = (outcome: Outcome) => {
    last = outcome;
    tellContent();
    while (unfilled.length > 0) tell(outcome);
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
        unfilled.push({ block: request.output, answer });
        return last === undefined ? whenUnfilled.resolve() : finish(last);
      }
      written = write(request.input, written, answer);
    },
    end: () => decoder.destroy(),
  };
}
