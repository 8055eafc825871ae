import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib';
import { bunzip2 } from './bunzip2.ts';
import { NixError } from '../nix-error.ts';
import { splitZstdFrames } from './zstd-frames.ts';

const CHUNK_SIZE = 256 * 1024;
/** 128 MiB, what `zstd --long` asks for at most. */
const ZSTD_WINDOW_LOG_MAX = 27;

/** By the names narinfos use. */
const COMPRESSIONS = ['none', 'xz', 'zstd', 'gzip', 'br', 'bzip2'] as const;

export interface DecompressOptions {
  /** What is decompressed, for the error messages. */
  origin: string;
}

/**
 * Undoes the compression that a narinfo declares. Frames and members in a row are one stream.
 *
 * @throws {@link NixError} `NIX_COMPRESSION_UNSUPPORTED`; `NIX_COMPRESSION_INVALID` when the data is not of that kind.
 */
export function decompress(
  source: AsyncIterable<Uint8Array>,
  compression: string,
  { origin }: DecompressOptions,
): AsyncIterable<Uint8Array> {
  switch (compression) {
    case 'none':
      return source;
    case 'zstd': {
      const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
      return through(splitZstdFrames(source, origin), createZstdDecompress({ chunkSize: CHUNK_SIZE, params }), origin);
    }
    case 'gzip':
      return through(source, createGunzip({ chunkSize: CHUNK_SIZE }), origin);
    case 'br':
      return through(source, createBrotliDecompress({ chunkSize: CHUNK_SIZE }), origin);
    case 'bzip2':
      return unbzip(source, origin);
    case 'xz':
      return unxz(source, origin);
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
  codec: Transform,
  origin: string,
): AsyncGenerator<Uint8Array, void> {
  const { input, errorOr } = watch(source);
  // A failure destroys the codec, and so leaves through the loop below.
  const piping = pipeline(Readable.from(input, { objectMode: false }), codec).catch(() => undefined);
  try {
    for await (const chunk of codec) yield chunk as Buffer;
  } catch (error) {
    throw errorOr(invalid(origin, error));
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

/** `source`, and a way to tell its failures from those of the codec behind it: `errorOr` is what it threw, or else the other error. */
function watch(source: AsyncIterable<Uint8Array>) {
  let failure: { readonly error: unknown } | undefined;
  const read = async function* (): AsyncGenerator<Uint8Array, void> {
    try {
      yield* source;
    } catch (error) {
      failure = { error };
      throw error;
    }
  };
  return { input: read(), errorOr: (error: unknown) => (failure === undefined ? error : failure.error) };
}

function invalid(origin: string, cause: unknown): NixError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NixError('NIX_COMPRESSION_INVALID', `Cannot decompress "${origin}": ${why}`, { cause });
}
