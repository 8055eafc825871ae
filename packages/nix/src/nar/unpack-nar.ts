import { abortable, type SignalOptions } from '../abortable.ts';
import type { NarHash } from '../formats/hash.ts';
import { BlockWriter } from './block-writer.ts';
import { NarHasher } from './nar-hasher.ts';
import { NarParser } from './nar-parser.ts';
import { removeTree } from './remove-tree.ts';
import { TreeWriter } from './tree-writer.ts';

/** Options of {@link unpackNar}. */
export interface UnpackNarOptions extends SignalOptions {
  /** Most bytes the NAR may have. */
  maxSize?: number | undefined;
  /** What the NAR is of, for the error messages. */
  origin?: string | undefined;
  /** `false`: do not hash the NAR, because that happens elsewhere. */
  hash?: boolean | undefined;
}

/**
 * Unpacks an uncompressed NAR to `target`, which must not exist, with the metadata Nix gives: files 0444 or 0555, folders 0555,
 * modification time 1. Nothing is written outside `target`; when it fails, `target` is gone again.
 * A chunk of `source` is not needed any more when the next is asked for. Large NARs are hashed, and what is in them written, by other threads.
 *
 * @returns hash (unless `hash` is `false`) and size of the NAR, computed in the same pass.
 * @throws {@link NixError} `NIX_NAR_INVALID`, `NIX_NAR_SIZE_MISMATCH` beyond `maxSize`, `NIX_UNPACK_FAILED` when the disk refuses.
 */
export async function unpackNar(
  source: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackNarOptions & { hash: false },
): Promise<{ narSize: number }>;
export async function unpackNar(
  source: AsyncIterable<Uint8Array>,
  target: string,
  options?: UnpackNarOptions & { hash?: true | undefined },
): Promise<{ narHash: NarHash; narSize: number }>;
export async function unpackNar(
  source: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackNarOptions = {},
): Promise<{ narHash?: NarHash; narSize: number }> {
  const { hash = true, maxSize, signal } = options;
  using tree = new TreeWriter(target);
  const parser = new NarParser(tree, { maxSize, origin: options.origin ?? target });
  using hasher = hash ? new NarHasher() : undefined;
  const blocks = new BlockWriter((block, length) => {
    parser.write(Buffer.from(block, 0, length));
    return Promise.all([tree.write(block), hasher?.write(block, length)]);
  });
  try {
    for await (const chunk of abortable(source, signal)) await blocks.write(chunk);
    blocks.flush();
    parser.end();
    await tree.finish();
    const narHash = await hasher?.digest();
    return { ...(narHash === undefined ? {} : { narHash }), narSize: parser.offset };
  } catch (error) {
    await tree.abandon();
    if (tree.hasCreated) await removeTree(target);
    throw error;
  }
}
