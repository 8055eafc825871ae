import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { bunzip2 } from './bunzip2.ts';
import {
  type Decoder,
  decompressElsewhere,
  isFull,
  type PieceBlock,
  pieceBlocks,
  piecesOf,
} from './decompress-thread.ts';
import { NixError } from '../nix-error.ts';
import { returnBlock } from '../threads/blocks.ts';
import { ThreadError } from '../threads/thread-pool.ts';
import { splitZstdFrames, ZstdFrames } from './zstd-frames.ts';

const CHUNK_SIZE = 256 * 1024;
/** 128 MiB, what `zstd --long` asks for at most. */
const ZSTD_WINDOW_LOG_MAX = 27;

/** By the names narinfos use. */
const COMPRESSIONS = ['none', 'xz', 'zstd', 'gzip', 'br', 'bzip2'] as const;

const DECODERS: Readonly<Record<'zstd' | 'gzip' | 'br', Decoder>> = {
  zstd: {
    create: 'createZstdDecompress',
    options: { chunkSize: CHUNK_SIZE, params: { [zlib.constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX } },
  },
  gzip: { create: 'createGunzip', options: { chunkSize: CHUNK_SIZE } },
  br: { create: 'createBrotliDecompress', options: { chunkSize: CHUNK_SIZE } },
};

export interface DecompressOptions {
  /** What is decompressed, for the error messages. */
  origin: string;
  /**
   * A chunk is valid only until the next one is asked for, and those of the source need not be valid longer either. Spares much memory,
   * and the time to collect it, where content is large.
   */
  reuseChunks?: boolean | undefined;
}

/**
 * Undoes the compression that a narinfo declares. Frames and members in a row are one stream.
 *
 * @throws {@link NixError} `NIX_COMPRESSION_UNSUPPORTED`; `NIX_COMPRESSION_INVALID` when the data is not of that kind.
 */
export function decompress(
  source: AsyncIterable<Uint8Array>,
  compression: string,
  options: DecompressOptions,
): AsyncIterable<Uint8Array> {
  const { origin, reuseChunks = false } = options;
  switch (compression) {
    case 'none':
      return source;
    case 'zstd':
      return through(source, DECODERS.zstd, options);
    case 'gzip':
    case 'br':
      return through(source, DECODERS[compression], options);
    case 'bzip2':
      return unbzip(reuseChunks ? copies(source) : source, origin);
    case 'xz':
      return unxz(reuseChunks ? copies(source) : source, origin);
    default:
      throw new NixError(
        'NIX_COMPRESSION_UNSUPPORTED',
        `Cannot decompress "${origin}": compression "${compression}" is not one of ${COMPRESSIONS.join(', ')}`,
        { hint: 'Copy the path into the cache again with: nix copy --to "URL?compression=zstd" PATH' },
      );
  }
}

async function* through(
  source: AsyncIterable<Uint8Array>,
  decoder: Decoder,
  { origin, reuseChunks = false }: DecompressOptions,
): AsyncGenerator<Uint8Array, void> {
  const frames = decoder === DECODERS.zstd ? new ZstdFrames(origin) : undefined;
  const { input, errorOr } = watch(source);
  try {
    if (reuseChunks) yield* decompressReusing(pieceBlocks(input, frames), decoder);
    else yield* decompressHere(frames === undefined ? input : splitZstdFrames(input, frames), decoder);
  } catch (error) {
    throw errorOr(error instanceof NixError || error instanceof ThreadError ? error : invalid(origin, error));
  } finally {
    await input.return();
  }
}

/** What is not even a block is decompressed here: asking another thread, or even starting one, would take longer. */
async function* decompressReusing(
  blocks: AsyncGenerator<PieceBlock, void>,
  decoder: Decoder,
): AsyncGenerator<Uint8Array, void> {
  const { value: first } = await blocks.next();
  if (first !== undefined && isFull(first)) return yield* decompressElsewhere(first, blocks, decoder);
  yield* decompressHere(first === undefined ? [] : piecesOf(first), decoder);
  if (first !== undefined) returnBlock(first.block);
}

async function* decompressHere(
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  { create, options }: Decoder,
): AsyncGenerator<Uint8Array, void> {
  const codec: Transform = zlib[create](options);
  // A failure destroys the codec, and so leaves through the loop below.
  const piping = pipeline(Readable.from(source, { objectMode: false }), codec).catch(() => undefined);
  try {
    for await (const chunk of codec) yield chunk as Buffer;
  } finally {
    codec.destroy();
    await piping;
  }
}

async function* unxz(source: AsyncIterable<Uint8Array>, origin: string): AsyncGenerator<Uint8Array, void> {
  // Loaded on demand: a native library that most processes never need.
  const { xz } = await import('@napi-rs/lzma');
  const { input, errorOr } = watch(source);
  try {
    yield* xz.decompressStream(ReadableStream.from<Uint8Array>(input));
  } catch (error) {
    throw errorOr(invalid(origin, error));
  } finally {
    // Leaving early cancels the decoder only, which would keep what is behind `source` open.
    await input.return();
  }
}

async function* unbzip(source: AsyncIterable<Uint8Array>, origin: string): AsyncGenerator<Uint8Array, void> {
  const { input, errorOr } = watch(source);
  try {
    yield* bunzip2(input);
  } catch (error) {
    throw errorOr(invalid(origin, error));
  } finally {
    await input.return();
  }
}

async function* copies(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of source) yield Uint8Array.from(chunk);
}

/** `source`, and a way to tell its failures from those of the codec behind it: `errorOr` is what it threw, or else the other error. */
function watch(source: AsyncIterable<Uint8Array>) {
  let failure: { readonly error: unknown } | undefined;
  const read = async function* (): AsyncGenerator<Uint8Array, void> {
    let isRead = false;
    try {
      for await (const chunk of source) {
        isRead = true;
        yield chunk;
        isRead = false;
      }
    } catch (error) {
      // A codec that fails throws that into what it reads from: it comes by here, too.
      if (!isRead) failure = { error };
      throw error;
    }
  };
  return { input: read(), errorOr: (error: unknown) => (failure === undefined ? error : failure.error) };
}

function invalid(origin: string, cause: unknown): NixError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NixError('NIX_COMPRESSION_INVALID', `Cannot decompress "${origin}": ${why}`, { cause });
}
