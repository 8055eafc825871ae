import type { Duplex } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import { NixError } from '../nix-error.ts';

const CHUNK_SIZE = 256 * 1024;

/** By the names narinfos use, with what the name of a compressed NAR ends in. */
const SUFFIXES = { none: '', zstd: '.zst', xz: '.xz' } as const;
const LEVELS = { none: [0, 0], zstd: [1, 22], xz: [0, 9] } as const;

/** What can be written. */
export type Compression = keyof typeof SUFFIXES;

export interface CompressionSettings {
  readonly compression: Compression;
  /** zstd: 1 to 22, xz: 0 to 9; undefined for the usual one (3 and 6). */
  readonly level: number | undefined;
}

/** @throws {@link NixError} `NIX_COMPRESSION_UNSUPPORTED` when NARs cannot be written that way. */
export function compressionSettings(compression: string, level: number | undefined): CompressionSettings {
  const invalid = (why: string) =>
    new NixError('NIX_COMPRESSION_UNSUPPORTED', `Cannot compress with "${compression}": ${why}`);
  if (!isCompression(compression)) throw invalid(`expected one of ${Object.keys(SUFFIXES).join(', ')}`);
  const [lowest, highest] = LEVELS[compression];
  if (level !== undefined && !(Number.isInteger(level) && level >= lowest && level <= highest))
    throw invalid(`there is no level ${level}, expected ${lowest} to ${highest}`);
  return { compression, level };
}

/** What the name of a NAR so compressed ends in, as Nix has it. */
export function narFileSuffix(compression: Compression): string {
  return `.nar${SUFFIXES[compression]}`;
}

/** A stream that compresses what is written to it, in constant memory; undefined for `none`. */
export async function compressor(
  settings: CompressionSettings & { readonly compression: Exclude<Compression, 'none'> },
): Promise<Duplex>;
export async function compressor(settings: CompressionSettings): Promise<Duplex | undefined>;
export async function compressor({ compression, level }: CompressionSettings): Promise<Duplex | undefined> {
  switch (compression) {
    case 'none':
      return undefined;
    case 'zstd': {
      // Without ZSTD_c_nbWorkers: with it, the encoder of Node 24 loses the end of the data.
      const params = level === undefined ? {} : { [constants.ZSTD_c_compressionLevel]: level };
      return createZstdCompress({ chunkSize: CHUNK_SIZE, params });
    }
    case 'xz': {
      // Loaded on demand: a native library that most processes never need.
      const { createCompressStream } = await import('@napi-rs/lzma/xz');
      return createCompressStream(level === undefined ? {} : { preset: level });
    }
  }
}

function isCompression(name: string): name is Compression {
  return Object.hasOwn(SUFFIXES, name);
}
