import type { Subscription } from '@nats-io/nats-core';
import { type ChunkId, isChunkId, unpackChunkIds } from '../chunks/chunk-id.ts';
import { attempt, type JetStream } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, CHUNK_SUBJECTS, DELETED_SUBJECT, lastToken, STORED_SUBJECTS } from '../jetstream/layout.ts';

/**
 * The names of all stored chunks, in memory: read once, then kept fresh by what JetStream announces. It may lag behind for
 * moments, in both directions; a push that was told wrong sends a chunk in vain, or is told so at its commit.
 */
export class PresenceSet implements Disposable {
  readonly #ids = new Set<ChunkId>();
  /** Called with each chunk that is stored. */
  readonly #waiting = new Set<(id: ChunkId) => void>();
  #subscription: Subscription | undefined;

  static async open(jetstream: JetStream, signal?: AbortSignal): Promise<PresenceSet> {
    const set = new PresenceSet();
    try {
      await set.#load(jetstream, signal);
    } catch (error) {
      set[Symbol.dispose]();
      throw error;
    }
    return set;
  }

  has(id: ChunkId): boolean {
    return this.#ids.has(id);
  }

  add(id: ChunkId): void {
    this.#ids.add(id);
    for (const added of this.#waiting) added(id);
  }

  /** Waits until chunks that are not there have been stored, or `signal` is aborted. */
  async awaitStored(ids: readonly ChunkId[], signal: AbortSignal): Promise<void> {
    const left = new Set(ids);
    const { promise, resolve } = Promise.withResolvers<void>();
    const added = (id: ChunkId) => {
      if (left.delete(id) && left.size === 0) resolve();
    };
    this.#waiting.add(added);
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted || left.size === 0) resolve();
    await promise;
    this.#waiting.delete(added);
  }

  delete(id: ChunkId): void {
    this.#ids.delete(id);
  }

  [Symbol.dispose](): void {
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
  }

  async #load(jetstream: JetStream, signal: AbortSignal | undefined): Promise<void> {
    const { nc } = jetstream;
    // Listening begins first: what is stored while the names are read is in one of the two.
    this.#subscription = nc.subscribe(STORED_SUBJECTS, {
      callback: (error, message) => {
        if (error !== null) return;
        if (message.subject === DELETED_SUBJECT) for (const id of unpackChunkIds(message.data)) this.#ids.delete(id);
        else this.#addSubject(message.subject);
      },
    });
    await attempt(nc, { action: 'listen for stored chunks', signal }, () => nc.flush());
    for await (const subject of storedSubjects(jetstream, signal)) this.#addSubject(subject);
  }

  #addSubject(subject: string): void {
    const id = lastToken(subject);
    if (isChunkId(id)) this.add(id);
  }
}

/**
 * The subjects of all stored chunks, page by page as `$JS.API.STREAM.INFO` gives them (100 000 each). The client library
 * would gather all pages first, at several times the memory.
 */
async function* storedSubjects(jetstream: JetStream, signal?: AbortSignal): AsyncGenerator<string> {
  const { nc, js } = jetstream;
  for (let offset = 0; ;) {
    const body = JSON.stringify({ subjects_filter: CHUNK_SUBJECTS, offset });
    const page = await attempt(nc, { action: 'list the stored chunks', signal }, async () => {
      const message = await nc.request(`${js.apiPrefix}.STREAM.INFO.${CHUNK_STREAM}`, body, { timeout: 30_000 });
      return message.json<{ total?: number; state?: { subjects?: Record<string, number> } }>();
    });
    const subjects = Object.keys(page.state?.subjects ?? {});
    yield* subjects;
    offset += subjects.length;
    if (subjects.length === 0 || offset >= (page.total ?? 0)) return;
  }
}
