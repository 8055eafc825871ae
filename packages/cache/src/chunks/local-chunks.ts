import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type LocalStore, NarRanges, NixError, type StorePath } from '@nex-nix/nix';
import { computeChunkId } from './chunk-id.ts';
import { ChunkIndex, type ChunkIndexOptions, type ChunkPlace } from './chunk-index.ts';
import type { ChunkRef, Manifest } from '../manifests/manifest.ts';
import { MentionPlaces } from '../manifests/mentions.ts';

/** Paths that one NAR takes chunks of at a time: mostly it is one, the version before. */
const MAX_OPEN = 4;

/**
 * The chunks that the paths of a local store consist of: where a pull has them, it need not fetch them. The store holds
 * unpacked trees, so a chunk is the range of a NAR with its mentions taken out.
 *
 * Which path has which chunk is remembered in `<store>/chunks.sqlite` when a path was pulled. That may be wrong or lost at any
 * time, since each chunk is compared with its name. Several processes may use one store.
 */
export class LocalChunks implements Disposable {
  readonly #store: Pick<LocalStore, 'realPath'>;
  readonly #index: ChunkIndex;
  /** Bytes of chunks, uncompressed, that were read here instead of being fetched. */
  reusedBytes = 0;

  constructor(store: Pick<LocalStore, 'dir' | 'realPath'>, options: ChunkIndexOptions = {}) {
    this.#store = store;
    this.#index = new ChunkIndex(join(store.dir, 'chunks.sqlite'), (path) => existsSync(store.realPath(path)), options);
  }

  /** For the chunks of one NAR, which are asked for in about their order. */
  reader(): LocalChunkReader {
    return new LocalChunkReader(this.#store, this.#index, (bytes) => (this.reusedBytes += bytes));
  }

  /** Remembers that a path, which is in the store or will be in a moment, consists of these chunks. */
  remember(path: StorePath, manifest: Manifest): void {
    this.#index.add(path, manifest);
  }

  /** Closes the file. What is under way fetches from then on. */
  [Symbol.dispose](): void {
    this.#index[Symbol.dispose]();
  }
}

/** A path of the store from which chunks are read. */
interface OpenPath {
  readonly ranges: NarRanges;
  readonly mentions: MentionPlaces;
}

/** Reads chunks out of the paths of a store. */
export class LocalChunkReader {
  readonly #store: Pick<LocalStore, 'realPath'>;
  readonly #index: ChunkIndex;
  readonly #onReused: (bytes: number) => void;
  /** The least recently used first; undefined: of no use. */
  readonly #open = new Map<number, OpenPath | undefined>();

  constructor(store: Pick<LocalStore, 'realPath'>, index: ChunkIndex, onReused: (bytes: number) => void) {
    this.#store = store;
    this.#index = index;
    this.#onReused = onReused;
  }

  /** The chunk, verified; undefined when no path has it any more. */
  async read(chunk: ChunkRef, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (const place of this.#index.places(chunk.id)) {
      const bytes = await this.#readAt(place, chunk.size, signal);
      if (bytes === undefined || (await computeChunkId(bytes)) !== chunk.id) continue;
      this.#onReused(bytes.length);
      return bytes;
    }
    return undefined;
  }

  async #readAt(place: ChunkPlace, size: number, signal: AbortSignal) {
    const { id, start } = place;
    const path = this.#openPath(place);
    try {
      const bytes = await path?.ranges.read(start, size, { signal });
      if (bytes !== undefined) path?.mentions.blank(bytes, start);
      return bytes;
    } catch (error) {
      // The path was collected, maybe just now, or the index makes no sense.
      const isGone = error instanceof NixError && error.code === 'NIX_DUMP_FAILED';
      if (!isGone && !(error instanceof RangeError)) throw error;
      this.#open.set(id, undefined);
      return undefined;
    }
  }

  #openPath({ id, path }: ChunkPlace): OpenPath | undefined {
    const open = this.#open.has(id) ? this.#open.get(id) : this.#lookUp(id, path);
    this.#open.delete(id);
    this.#open.set(id, open);
    const [oldest] = this.#open.keys();
    if (this.#open.size > MAX_OPEN && oldest !== undefined) this.#open.delete(oldest);
    return open;
  }

  #lookUp(id: number, path: StorePath): OpenPath | undefined {
    const manifest = this.#index.mentions(id);
    if (manifest === undefined) return undefined;
    return { ranges: new NarRanges(this.#store.realPath(path)), mentions: new MentionPlaces(manifest) };
  }
}
