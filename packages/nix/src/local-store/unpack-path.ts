import { abortable } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { type ContentCheck, contentCheck } from '../nar/content-check.ts';
import { unpackNar } from '../nar/unpack-nar.ts';
import { NixError } from '../nix-error.ts';
import { isFull } from '../sqlite-error.ts';
import { storeFull } from './store-database.ts';

/**
 * Unpacks the NAR of a path to `target` and verifies it: size and hash, and its content address as far as it can be.
 * When it fails, nothing is left at `target`.
 *
 * @throws {@link NixError} `NIX_NAR_INVALID`, `NIX_NAR_SIZE_MISMATCH`, `NIX_NAR_HASH_MISMATCH`, `NIX_CONTENT_MISMATCH`,
 *   `NIX_UNPACK_FAILED`, `NIX_STORE_FULL`.
 */
export async function unpackPath(
  info: PathInfo,
  nar: AsyncIterable<Uint8Array>,
  target: string,
  { signal, origin }: { signal: AbortSignal; origin: string },
): Promise<void> {
  const check = contentCheck(info);
  const source = check === undefined ? nar : checked(abortable(nar, signal), check);
  const unpacked = await unpackNar(source, target, { maxSize: info.narSize, signal, origin: info.storePath }).catch(
    (error: unknown) => {
      throw error instanceof NixError && isFull(error.cause) ? storeFull(target, error) : error;
    },
  );
  if (unpacked.narSize !== info.narSize) {
    const what = `its NAR is ${unpacked.narSize} bytes, expected ${info.narSize}`;
    throw mismatch('NIX_NAR_SIZE_MISMATCH', info, { what, origin });
  }
  if (unpacked.narHash !== info.narHash) {
    const what = `its NAR hash is ${unpacked.narHash}, expected ${info.narHash}`;
    throw mismatch('NIX_NAR_HASH_MISMATCH', info, { what, origin });
  }
  check?.verify(origin);
}

async function* checked(nar: AsyncIterable<Uint8Array>, check: ContentCheck): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of nar) {
    check.update(chunk);
    yield chunk;
  }
}

function mismatch(
  code: 'NIX_NAR_SIZE_MISMATCH' | 'NIX_NAR_HASH_MISMATCH',
  info: PathInfo,
  { what, origin }: { what: string; origin: string },
): NixError {
  return new NixError(code, `Cannot import "${info.storePath}" from "${origin}": ${what}`, {
    hint: 'The source is damaged: copy the path there again, or take it from another one',
  });
}
