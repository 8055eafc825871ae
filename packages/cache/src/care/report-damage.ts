import type { StorePath } from '@nex-nix/nix';
import { isChunkId } from '../chunk-id.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream.ts';
import { check } from './check.ts';

/**
 * Tells the service of a chunk that could not be read, so that those who hold the path can bring it back. Other errors are
 * none of its business.
 */
export async function reportDamage(
  jetstream: JetStream,
  { error, path }: { error: unknown; path: StorePath },
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!(error instanceof CacheError) || error.chunk === undefined || !isChunkId(error.chunk)) return;
  try {
    await check(jetstream, { chunks: [error.chunk], path }, signal);
  } catch (failure) {
    // The reader gets the error that it is about; a service that cannot be told will be by the next reader.
    if (!(failure instanceof CacheError) && signal?.aborted !== true) throw failure;
  }
}
