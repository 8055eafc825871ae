import type { StorePath } from '@nex-nix/nix';
import { isChunkId } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { check } from './check.ts';

/**
 * Tells the service of a chunk that could not be read, so that those who hold the path can bring it back, and waits for that.
 * Other errors are none of its business.
 * @param options.waitMs - how long at most.
 * @returns whether the chunk can be read now.
 */
export async function reportDamage(
  jetstream: JetStream,
  { error, path, waitMs }: { error: unknown; path: StorePath; waitMs: number },
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (!(error instanceof CacheError) || error.chunk === undefined || !isChunkId(error.chunk)) return false;
  try {
    return (await check(jetstream, { chunks: [error.chunk], path, waitMs }, signal)).length === 0;
  } catch (failure) {
    // The reader gets the error that it is about; a service that cannot be told will be by the next reader.
    if (failure instanceof CacheError || signal?.aborted === true) return false;
    throw failure;
  }
}
