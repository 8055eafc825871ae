import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { ChunkWriter } from './chunk-writer.ts';
import type { NarOptions } from './nar-options.ts';
import { attempt, failed, walkTree } from './walk-tree.ts';

/** Reading is synchronous, which is fastest; after this many ms others get their turn. */
const TIME_SLICE = 5;

/**
 * The NAR of a file, folder or symbolic link on disk, the same bytes that `nix-store --dump` writes.
 * Constant memory; chunks of at most 1 MiB that are not touched again once handed out (`reuseChunks` aside).
 *
 * @throws {@link NixError} `NIX_DUMP_FAILED` when something cannot be read, changes meanwhile, or has no place in a NAR.
 */
export async function* dumpNar(path: string, options: NarOptions = {}): AsyncGenerator<Uint8Array, void> {
  const { signal, reuseChunks = false } = options;
  signal?.throwIfAborted();
  let sliceEnd = performance.now() + TIME_SLICE;
  const out = new ChunkWriter({ reuse: reuseChunks });
  const chunks = walkTree(path, out, { take: () => out.take(), file: (file) => writeFile(out, file) });
  for (const chunk of chunks) {
    yield chunk;
    signal?.throwIfAborted();
    if (performance.now() > sliceEnd) {
      await setImmediate();
      sliceEnd = performance.now() + TIME_SLICE;
    }
  }
}

function* writeFile(out: ChunkWriter, path: Buffer): Generator<Buffer, void> {
  const fd = attempt(path, () => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  try {
    const { size, mode } = attempt(path, () => fstatSync(fd));
    out.beginFile({ executable: (mode & 0o100) !== 0, size });
    for (let left = size; left > 0;) {
      if (out.space === 0) yield out.take();
      const read = attempt(path, () => out.readContents(fd, left));
      if (read === 0) throw failed(path, 'it became shorter while it was read');
      left -= read;
    }
    if (out.isFull) yield out.take();
    out.endFile(size);
  } finally {
    closeSync(fd);
  }
}
