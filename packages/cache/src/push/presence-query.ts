import { unpackBits } from '../protocol/bitmap.ts';
import { call } from '../protocol/call.ts';
import { type ChunkId, packChunkIds } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { IDS_PER_REQUEST, SUBJECTS } from '../protocol/protocol.ts';

interface Asked {
  readonly id: ChunkId;
  readonly resolve: (present: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Ids asked for at once, unless {@link PresenceQuery.flush} is faster: a request costs as much as hashing four chunks. */
const BATCH = 16;

/**
 * Asks the cache which chunks it has. One request is under way at a time; what is asked meanwhile goes together into the
 * next one.
 */
export class PresenceQuery {
  readonly #jetstream: JetStream;
  readonly #signal: AbortSignal | undefined;
  #waiting: Asked[] = [];
  /** How many of them are to be asked for without waiting for more. */
  #due = 0;
  /** Never rejects, and ends with the last answer, which those who asked wait for. */
  #draining: Promise<void> | undefined;

  constructor(jetstream: JetStream, signal: AbortSignal | undefined) {
    this.#jetstream = jetstream;
    this.#signal = signal;
  }

  /** Whether the cache has the chunk. The question waits for more of its kind, or for {@link flush}. */
  async ask(id: ChunkId): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.push({ id, resolve, reject });
    if (this.#waiting.length - this.#due >= BATCH) this.flush();
    return promise;
  }

  /** Has everything asked that waits. Whoever asks must see to it that this is called after the last question. */
  flush(): void {
    this.#due = this.#waiting.length;
    if (this.#due > 0 && this.#draining === undefined) this.#draining = this.#drain();
  }

  async #drain(): Promise<void> {
    while (this.#due > 0) {
      const batch = this.#waiting.splice(0, Math.min(this.#due, IDS_PER_REQUEST));
      this.#due -= batch.length;
      try {
        const present = await this.#request(batch.map(({ id }) => id));
        for (const [i, { resolve }] of batch.entries()) resolve(present[i] === true);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#draining = undefined;
  }

  async #request(ids: readonly ChunkId[]): Promise<boolean[]> {
    const question = { subject: SUBJECTS.have, body: packChunkIds(ids) };
    const task = { action: 'ask the cache for the chunks it has', signal: this.#signal };
    const bits = unpackBits(await call(this.#jetstream, question, task), ids.length);
    if (bits !== undefined) return bits;
    throw new CacheError(
      'CACHE_PROTOCOL',
      'Cannot use the answer on the chunks that the cache has: its length is wrong',
    );
  }
}
