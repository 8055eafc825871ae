import { abortable } from '../tasks/abortable.ts';
import { type ChunkId, computeChunkId } from '../chunks/chunk-id.ts';
import { putChunk } from '../chunks/chunk-store.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import type { ChunkRef } from '../manifests/manifest.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import { PresenceQuery } from './presence-query.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import { TaskGroup } from '../tasks/task-group.ts';
import { Compressor } from '../chunks/zstd.ts';

/** Bytes of chunks held in memory by one push: read, asked for, compressed or on their way. */
const MEMORY = 8 * 1024 * 1024;
/** Chunks compressed and published at once. */
const PUBLISH_WINDOW = 8;

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
  readonly #signal: AbortSignal | undefined;
  readonly #onChunk: () => void;
  readonly #query: PresenceQuery;
  readonly #compressor = new Compressor();
  readonly #memory = new Semaphore(MEMORY);
  readonly #window = new Semaphore(PUBLISH_WINDOW);
  readonly #present = new Set<ChunkId>();
  /** Chunks under way: a second path with the same chunk waits for the first. */
  readonly #underWay = new Map<ChunkId, Promise<void>>();
  /** Chunks that are being hashed, and will be asked for then. */
  #hashing = 0;

  constructor(
    jetstream: JetStream,
    { signal, onChunk }: { signal?: AbortSignal | undefined; onChunk?: () => void } = {},
  ) {
    this.#jetstream = jetstream;
    this.#signal = signal;
    this.#onChunk = onChunk ?? (() => undefined);
    this.#query = new PresenceQuery(jetstream, signal);
  }

  /**
   * Brings the chunks of a NAR into the cache, and reads ahead as long as there is room. Each chunk must have memory of its own:
   * it is given back.
   * @param options.evenIfPresent - a second time, without asking: JetStream refuses what it does have.
   * @returns what its manifest is to list.
   */
  async upload(chunks: AsyncIterable<Uint8Array>, options: { evenIfPresent: boolean }): Promise<ChunkRef[]> {
    const refs: ChunkRef[] = [];
    const uploads = new TaskGroup(this.#signal);
    try {
      for await (const bytes of chunks) {
        const memory = await this.#memory.acquire(bytes.length, uploads.signal);
        const at = refs.length;
        refs.length++;
        uploads.start(async () => {
          using _ = memory;
          refs[at] = { size: bytes.length, id: await this.#bring(bytes, options) };
          releaseMemory(bytes);
        });
      }
    } finally {
      await uploads.join();
    }
    return refs;
  }

  /** To be called when nothing is under way. */
  [Symbol.dispose](): void {
    this.#compressor[Symbol.dispose]();
  }

  async #bring(bytes: Uint8Array, { evenIfPresent }: { evenIfPresent: boolean }): Promise<ChunkId> {
    const id = await this.#hash(bytes);
    if (evenIfPresent) {
      this.#flushIfLast();
      await this.#send(id, bytes);
      return id;
    }
    await this.#sendOnce(id, bytes);
    this.chunks++;
    this.narBytes += bytes.length;
    this.#onChunk();
    return id;
  }

  async #hash(bytes: Uint8Array): Promise<ChunkId> {
    this.#hashing++;
    try {
      return await computeChunkId(bytes);
    } finally {
      this.#hashing--;
    }
  }

  /** Questions wait for more of their kind, but not for chunks that are not there yet: to be called for each that was hashed. */
  #flushIfLast(): void {
    if (this.#hashing === 0) this.#query.flush();
  }

  async #sendOnce(id: ChunkId, bytes: Uint8Array): Promise<void> {
    const underWay = this.#underWay.get(id);
    if (this.#present.has(id) || underWay !== undefined) {
      this.#flushIfLast();
      await abortable(underWay ?? Promise.resolve(), this.#signal);
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
    const asking = this.#query.ask(id);
    this.#flushIfLast();
    if (!(await asking)) await this.#send(id, bytes);
  }

  async #send(id: ChunkId, bytes: Uint8Array): Promise<void> {
    using _ = await this.#window.acquire(1, this.#signal);
    const sent = await putChunk(this.#jetstream, { id, bytes }, { compressor: this.#compressor, signal: this.#signal });
    if (sent === 0) return;
    this.sentChunks++;
    this.sentBytes += sent;
  }
}
