import type { Manifest } from '../manifest.ts';
import { decodeMentions, replaceFiller } from '../mentions.ts';

/** Text that belongs at an offset of a chunk, where a filler is. */
export interface ChunkMention {
  readonly at: number;
  readonly text: string;
}

/** The mentions of store paths in a NAR, by the index of their chunk. Read at the first call: most NARs are not sent. */
export function chunkMentions({ chunks, mentions, narSize }: Manifest): () => ReadonlyMap<number, ChunkMention[]> {
  let byChunk: Map<number, ChunkMention[]> | undefined;
  return () => {
    if (byChunk !== undefined) return byChunk;
    byChunk = new Map();
    let index = 0;
    let from = 0;
    for (const { start, hash } of mentions === undefined ? [] : decodeMentions(mentions, narSize)) {
      const end = start + hash.length;
      for (;;) {
        const to = from + (chunks[index]?.size ?? Infinity);
        if (start < to) {
          const text = hash.slice(Math.max(0, from - start), to - start);
          const edits = byChunk.get(index) ?? [];
          edits.push({ at: Math.max(start, from) - from, text });
          byChunk.set(index, edits);
        }
        // A mention that a cut point divides goes on in the next chunk.
        if (end <= to) break;
        from = to;
        index++;
      }
    }
    return byChunk;
  };
}

/**
 * A chunk with its mentions in place. `bytes` are left as they are.
 * @throws `RangeError` when there is no filler where one is to be
 */
export function restoreMentions(bytes: Uint8Array, mentions: readonly ChunkMention[] | undefined): Uint8Array {
  if (mentions === undefined) return bytes;
  const restored = Buffer.from(bytes);
  for (const { at, text } of mentions) replaceFiller(restored.subarray(at, at + text.length), text);
  return restored;
}
