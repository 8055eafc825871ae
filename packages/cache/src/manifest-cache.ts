import type { NarHash, PathInfo } from '@nex-nix/nix';
import type { Manifest } from './manifest.ts';

/** Chunks in all remembered manifests together: about 30 MB of memory, 50 GB of NARs. */
const MAX_CHUNKS = 200_000;

/** The manifests that came with the last closures; the oldest go first. */
export class ManifestCache {
  readonly #manifests = new Map<NarHash, Manifest>();
  #chunks = 0;

  get({ narHash, narSize }: PathInfo): Manifest | undefined {
    const manifest = this.#manifests.get(narHash);
    return manifest?.narSize === narSize ? manifest : undefined;
  }

  add(manifest: Manifest): void {
    if (this.#manifests.has(manifest.narHash)) return;
    this.#manifests.set(manifest.narHash, manifest);
    this.#chunks += manifest.chunks.length;
    for (const [narHash, { chunks }] of this.#manifests) {
      if (this.#chunks <= MAX_CHUNKS) return;
      this.#manifests.delete(narHash);
      this.#chunks -= chunks.length;
    }
  }
}
