import { type ChunkId, chunkIdOf } from './chunk-id.ts';
import { putChunk } from './chunk-store.ts';
import { abortable } from './abortable.ts';
import type { JetStream } from './jetstream.ts';
import type { ChunkRef } from './manifest.ts';
import { PresenceQuery } from './presence-query.ts';
import { Semaphore } from './semaphore.ts';
import type { TaskGroup } from './task-group.ts';
import { Compressor } from './zstd.ts';

/** Bytes of chunks held in memory by one push: read, asked for, compressed or on their way. */
const MEMORY = 16 * 1024 * 1024;
/** Chunks compressed and published at once. */
const PUBLISH_WINDOW = 16;

/** Sends the chunks that the cache does not have, each once, and counts. Shared by all paths of a push. */
export class ChunkUploader implements Disposable {
  /** Bytes of all chunks that are done. */
  narBytes = 0;
  /** All chunks that are done. */
  chunks = 0;
  /** Those of them that were sent. */
  sentChunks = 0;
  /** Bytes that were sent of them. */
  sentBytes = 0;

  readonly #jetstream: JetStream;
  readonly #signal: AbortSignal;
  readonly #onChunk: () => void;
  readonly #query: PresenceQuery;
  readonly #compressor = new Compressor();
  readonly #memory = new Semaphore(MEMORY);
  readonly #window = new Semaphore(PUBLISH_WINDOW);
  readonly #present = new Set<ChunkId>();
  /** Chunks under way: a second path with the same chunk waits for the first. */
  readonly #underWay = new Map<ChunkId, Promise<void>>();

  constructor(jetstream: JetStream, { signal, onChunk }: { signal: AbortSignal; onChunk: () => void }) {
    this.#jetstream = jetstream;
    this.#signal = signal;
    this.#onChunk = onChunk;
    this.#query = new PresenceQuery(jetstream, signal);
  }

  /**
   * Begins to bring a chunk into the cache, as a task of `uploads`; waits while too much is under way. After the last one
   * {@link flush} is needed.
   * @param options.evenIfPresent - a second time, without asking: JetStream refuses what it does have.
   */
  async upload(bytes: Uint8Array, options: { uploads: TaskGroup; evenIfPresent: boolean }): Promise<ChunkRef> {
    const id = chunkIdOf(bytes);
    // What holds the memory must not wait for more chunks to come.
    if (this.#memory.isShortOf(bytes.length)) this.flush();
    const memory = await this.#memory.acquire(bytes.length, this.#signal);
    options.uploads.start(async () => {
      using _ = memory;
      if (options.evenIfPresent) {
        await this.#send(id, bytes);
        return;
      }
      await this.#sendOnce(id, bytes);
      this.chunks++;
      this.narBytes += bytes.length;
      this.#onChunk();
    });
    return { id, size: bytes.length };
  }

  /** Lets no chunk wait for others any more. */
  flush(): void {
    this.#query.flush();
  }

  /** To be called when nothing is under way. */
  [Symbol.dispose](): void {
    this.#compressor[Symbol.dispose]();
  }

  async #sendOnce(id: ChunkId, bytes: Uint8Array): Promise<void> {
    if (this.#present.has(id)) return;
    const underWay = this.#underWay.get(id);
    if (underWay !== undefined) {
      await abortable(underWay, this.#signal);
      return;
    }
    const sending = this.#sendIfAbsent(id, bytes);
    this.#underWay.set(id, sending);
    try {
      await sending;
      this.#present.add(id);
    } finally {
      this.#underWay.delete(id);
    }
  }

  async #sendIfAbsent(id: ChunkId, bytes: Uint8Array): Promise<void> {
    if (!(await this.#query.ask(id))) await this.#send(id, bytes);
  }

  async #send(id: ChunkId, bytes: Uint8Array): Promise<void> {
    using _ = await this.#window.acquire(1, this.#signal);
    const sent = await putChunk(this.#jetstream, { id, bytes }, { compressor: this.#compressor, signal: this.#signal });
    if (sent === 0) return;
    this.sentChunks++;
    this.sentBytes += sent;
  }
}
