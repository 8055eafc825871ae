import { createHash } from 'node:crypto';
import { abortable } from '../abortable.ts';
import { type NarHash, narHashOf } from '../formats/hash.ts';
import { NarParser } from './nar-parser.ts';
import type { SignalOptions } from '../abortable.ts';
import { removeTree } from './remove-tree.ts';
import { TreeWriter } from './tree-writer.ts';

export interface UnpackNarOptions extends SignalOptions {
  /** Most bytes the NAR may have. */
  maxSize?: number | undefined;
  /** Wait until files and folders are on the disk (fsync). */
  sync?: boolean | undefined;
  /** What the NAR is of, for the error messages. */
  origin?: string | undefined;
}

/**
 * Unpacks an uncompressed NAR to `target`, which must not exist, with the metadata Nix gives: files 0444 or 0555, folders 0555,
 * modification time 1. Nothing is written outside `target`; when it fails, `target` is gone again.
 * The chunks of `source` must not change after they were handed out.
 *
 * @returns hash and size of the NAR, computed in the same pass.
 * @throws {@link NixError} `NIX_NAR_INVALID`, `NIX_NAR_SIZE_MISMATCH` beyond `maxSize`, `NIX_UNPACK_FAILED` when the disk refuses.
 */
export async function unpackNar(
  source: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackNarOptions = {},
): Promise<{ narHash: NarHash; narSize: number }> {
  const hash = createHash('sha256');
  const writer = new TreeWriter(target, { sync: options.sync ?? false });
  const parser = new NarParser(writer, { maxSize: options.maxSize, origin: options.origin ?? target });
  try {
    for await (const chunk of abortable(source, options.signal)) {
      // Large files are written by other threads while this one hashes.
      parser.write(chunk);
      hash.update(chunk);
      if (writer.isBusy) await writer.drain();
    }
    parser.end();
    await writer.finish();
    return { narHash: narHashOf(hash.digest()), narSize: parser.offset };
  } catch (error) {
    await writer.abandon();
    if (writer.hasCreated) await removeTree(target);
    throw error;
  }
}
