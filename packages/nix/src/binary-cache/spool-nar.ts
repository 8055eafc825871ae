import { createHash, randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type CompressionSettings, compressor } from './compress.ts';
import { type NarHash, narHashOf } from '../formats/hash.ts';
import { NixError } from '../nix-error.ts';
import type { PathInfo } from '../formats/path-info.ts';

export interface SpooledNar extends AsyncDisposable {
  readonly path: string;
  /** Of the compressed file. */
  readonly hash: NarHash;
  /** Of the compressed file, in bytes. */
  readonly size: number;
}

export interface SpoolOptions {
  readonly folder: string;
  readonly compression: CompressionSettings;
  /** Where the NAR comes from, for the error messages. */
  readonly origin: string;
  readonly signal: AbortSignal | undefined;
}

/**
 * Compresses a NAR into a temporary file, as far as it is the NAR that `info` promises. The file goes with the result.
 *
 * @throws {@link NixError} `NIX_NAR_SIZE_MISMATCH`, `NIX_NAR_HASH_MISMATCH`, `NIX_CACHE_WRITE_FAILED`.
 */
export async function spoolNar(
  info: PathInfo,
  nar: AsyncIterable<Uint8Array>,
  { folder, compression, origin, signal }: SpoolOptions,
): Promise<SpooledNar> {
  const path = join(folder, `.spool-${process.pid}-${randomBytes(8).toString('hex')}`);
  const failToWrite = (error: unknown) => {
    throw new NixError('NIX_CACHE_WRITE_FAILED', `Cannot write "${path}": ${String(error)}`, { cause: error });
  };
  const handle = await open(path, 'wx').catch(failToWrite);
  const remove = async () => {
    await handle.close();
    await rm(path, { force: true });
  };
  const codec = await compressor(compression);
  const fileHash = createHash('sha256');
  let size = 0;
  const write = async (chunks: AsyncIterable<Uint8Array>) => {
    for await (const chunk of chunks) {
      // Uncompressed, the file is the NAR, whose hash is known.
      if (codec !== undefined) fileHash.update(chunk);
      size += chunk.length;
      await handle.writeFile(chunk).catch(failToWrite);
    }
  };
  try {
    const content = verified(info, nar, { origin, keepChunks: codec !== undefined });
    const options = signal === undefined ? {} : { signal };
    if (codec === undefined) await pipeline(content, write, options);
    else await pipeline(content, codec, write, options);
  } catch (error) {
    await remove();
    throw signal?.aborted === true ? signal.reason : error;
  }
  const hash = codec === undefined ? info.narHash : narHashOf(fileHash.digest());
  return { path, hash, size, [Symbol.asyncDispose]: remove };
}

async function* verified(
  info: PathInfo,
  nar: AsyncIterable<Uint8Array>,
  { origin, keepChunks }: { origin: string; keepChunks: boolean },
): AsyncGenerator<Uint8Array, void> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of nar) {
    size += chunk.length;
    if (size > info.narSize) throw sizeError(info, origin, `more than ${info.narSize} bytes`);
    hash.update(chunk);
    // A codec keeps what it has not come to yet.
    yield keepChunks ? Uint8Array.from(chunk) : chunk;
  }
  if (size < info.narSize) throw sizeError(info, origin, `${size} bytes, expected ${info.narSize}`);
  const narHash = narHashOf(hash.digest());
  if (narHash === info.narHash) return;
  throw new NixError(
    'NIX_NAR_HASH_MISMATCH',
    `Cannot add "${info.storePath}" from "${origin}": its NAR has the hash ${narHash}, expected ${info.narHash}`,
  );
}

function sizeError(info: PathInfo, origin: string, why: string): NixError {
  return new NixError('NIX_NAR_SIZE_MISMATCH', `Cannot add "${info.storePath}" from "${origin}": its NAR has ${why}`);
}
