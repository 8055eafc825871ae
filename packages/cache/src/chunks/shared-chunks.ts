import type { ChunkId } from './chunk-id.ts';

/** Bytes of chunks that are kept. */
const MEMORY = 32 * 1024 * 1024;

/** A chunk, and whether nobody else has these bytes. */
export interface FetchedChunk {
  readonly bytes: Uint8Array;
  readonly isOwn: boolean;
}

/** Chunks that several NARs have, or one NAR several times: fetched once, then kept as long as there is room. */
export class SharedChunks {
  readonly #isShared: (id: ChunkId) => boolean;
  /** The least recently used first. */
  readonly #kept = new Map<ChunkId, Uint8Array>();
  readonly #underWay = new Map<ChunkId, Promise<Uint8Array>>();
  #size = 0;

  /** @param isShared - which chunks are worth keeping. */
  constructor(isShared: (id: ChunkId) => boolean) {
    this.#isShared = isShared;
  }

  /** The chunk, which nobody may change unless it is their own; `fetch` brings it, verified, if it is not here. */
  async get(id: ChunkId, fetch: () => Promise<Uint8Array>): Promise<FetchedChunk> {
    if (!this.#isShared(id)) return { bytes: await fetch(), isOwn: true };
    const kept = this.#kept.get(id);
    if (kept !== undefined) {
      this.#kept.delete(id);
      this.#kept.set(id, kept);
      return { bytes: kept, isOwn: false };
    }
    const underWay = this.#underWay.get(id);
    if (underWay !== undefined) {
      try {
        return { bytes: await underWay, isOwn: false };
      } catch {
        // It failed for another path, or because its reader gave up: who asks here gets an answer of their own.
        return { bytes: await fetch(), isOwn: true };
      }
    }
    const fetching = fetch();
    this.#underWay.set(id, fetching);
    try {
      const bytes = await fetching;
      this.#keep(id, bytes);
      return { bytes, isOwn: false };
    } finally {
      this.#underWay.delete(id);
    }
  }

  #keep(id: ChunkId, bytes: Uint8Array): void {
    this.#kept.set(id, bytes);
    this.#size += bytes.length;
    for (const [oldest, { length }] of this.#kept) {
      if (this.#size <= MEMORY) return;
      this.#kept.delete(oldest);
      this.#size -= length;
    }
  }
}
