import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { NixError, systemErrorCode } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';

/** How the files of a binary cache are read. */
export interface CacheTransport {
  /** The file at `url`, or undefined when there is none. The bytes must be read, or the iteration ended. */
  get(url: URL, options: SignalOptions): Promise<AsyncIterable<Uint8Array> | undefined>;
}

const CHUNK_SIZE = 256 * 1024;

/** Files below the folder `root`. */
export function fileTransport(root: URL): CacheTransport {
  return {
    async get(url, { signal }) {
      signal?.throwIfAborted();
      if (url.protocol !== 'file:' || !url.pathname.startsWith(root.pathname)) {
        throw new NixError(
          'NIX_CACHE_INVALID',
          `Cannot read "${url.href}": it is outside the binary cache "${root.href}"`,
        );
      }
      try {
        return readFile(await open(fileURLToPath(url)), signal);
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') return undefined;
        throw new NixError('NIX_CACHE_INVALID', `Cannot read "${url.href}": ${String(error)}`, { cause: error });
      }
    },
  };
}

async function* readFile(
  file: Awaited<ReturnType<typeof open>>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void> {
  await using handle = file;
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(CHUNK_SIZE), 0, CHUNK_SIZE, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
