import type { NarHash, PathInfo } from '@nex-nix/nix';
import type { ChunkId } from '../chunks/chunk-id.ts';
import type { Manifest } from './manifest.ts';

/** Chunks in all remembered manifests together: about 40 MB of memory, 50 GB of NARs. */
const MAX_CHUNKS = 200_000;
/** Bytes of a table of mentions that count as a chunk. */
const CHUNK_COST = 150;

/** The manifests that came with the last closures; the oldest go first. */
export class ManifestCache {
  readonly #manifests = new Map<NarHash, Manifest>();
  /** How often the remembered manifests name each chunk. */
  readonly #uses = new Map<ChunkId, number>();
  #chunks = 0;

  get({ narHash, narSize }: PathInfo): Manifest | undefined {
    const manifest = this.#manifests.get(narHash);
    return manifest?.narSize === narSize ? manifest : undefined;
  }

  add(manifest: Manifest): void {
    if (this.#manifests.has(manifest.narHash)) return;
    this.#manifests.set(manifest.narHash, manifest);
    this.#count(manifest, 1);
    for (const oldest of this.#manifests.values()) {
      if (this.#chunks <= MAX_CHUNKS) return;
      this.#manifests.delete(oldest.narHash);
      this.#count(oldest, -1);
    }
  }

  /** Whether a chunk is named more than once. */
  isShared(id: ChunkId): boolean {
    return (this.#uses.get(id) ?? 0) > 1;
  }

  #count(manifest: Manifest, change: 1 | -1): void {
    this.#chunks += change * costOf(manifest);
    for (const { id } of manifest.chunks) {
      const uses = (this.#uses.get(id) ?? 0) + change;
      if (uses === 0) this.#uses.delete(id);
      else this.#uses.set(id, uses);
    }
  }
}

/** How many chunks it counts for. */
function costOf({ chunks, mentions }: Manifest): number {
  return chunks.length + (mentions === undefined ? 0 : Math.ceil(mentions.table.length / CHUNK_COST));
}
