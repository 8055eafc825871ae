import type { Subscription } from '@nats-io/nats-core';
import { type PathSource, parseStorePath, type StorePath } from '@nex-nix/nix';
import { type ChunkId, isChunkId } from '../chunks/chunk-id.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { LOST_SUBJECT } from '../jetstream/layout.ts';
import type { Logger } from '../service/logger.ts';
import { check } from './check.ts';
import { CHECKS_PER_REQUEST, type LostChunk } from './damage.ts';
import { reseed } from './reseed.ts';

export interface HealOptions {
  logger?: Logger | undefined;
  /** Called with each chunk that was brought back because it was announced; others of its path may have come with it. */
  onHealed?: ((healed: { readonly chunk: string; readonly storePath: StorePath }) => void) | undefined;
}

/** Chunks that wait while others are worked on; more are dropped, as they are announced again to the next reader. */
const WAITING = 10_000;
const MAX_PATHS = 16;

/**
 * Listens for chunks that the cache has lost, and brings them back where a source has their paths. One at a time. Failures
 * are logged: the chunk is announced again when the next reader misses it.
 */
export class Healer implements AsyncDisposable {
  readonly #jetstream: JetStream;
  readonly #source: PathSource;
  readonly #options: HealOptions;
  readonly #stopping = new AbortController();
  readonly #subscription: Subscription;
  /** Chunks by path: all that are lost of a path come back in one go. */
  readonly #waiting = new Map<StorePath, Set<ChunkId>>();
  #count = 0;
  #working: Promise<void> | undefined;

  constructor(jetstream: JetStream, source: PathSource, options: HealOptions) {
    this.#jetstream = jetstream;
    this.#source = source;
    this.#options = options;
    this.#subscription = jetstream.nc.subscribe(LOST_SUBJECT, {
      callback: (error, message) => {
        const lost = error === null ? readLost(message.data) : undefined;
        if (lost !== undefined) this.#add(lost);
      },
    });
  }

  /** Stops listening, and what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#jetstream.nc.isClosed()) this.#subscription.unsubscribe();
    this.#stopping.abort();
    await this.#working;
  }

  #add({ chunk, paths }: LostChunk): void {
    for (const path of paths) {
      const chunks = this.#waiting.get(path) ?? new Set();
      if (this.#count >= WAITING || chunks.has(chunk)) continue;
      this.#waiting.set(path, chunks.add(chunk));
      this.#count++;
    }
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopping;
    for (const [path, chunks] of this.#waiting) {
      if (signal.aborted) break;
      this.#waiting.delete(path);
      this.#count -= chunks.size;
      await this.#heal(path, [...chunks], signal);
    }
    this.#working = undefined;
  }

  async #heal(path: StorePath, chunks: readonly ChunkId[], signal: AbortSignal): Promise<void> {
    try {
      if ((await this.#source.pathInfo(path, { signal })) === undefined) return;
      const lost = await this.#stillLost(chunks, signal);
      if (lost.length === 0) return;
      for (const chunk of await reseed(this.#jetstream, { source: this.#source, path, chunks: lost }, signal)) {
        this.#options.logger?.info({ chunk, storePath: path }, 'brought a lost chunk back into the cache');
        this.#options.onHealed?.({ chunk, storePath: path });
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#options.logger?.error({ err: error, storePath: path }, 'could not bring lost chunks back');
    }
  }

  /** An announcement alone is no reason to read a path: another node may have been faster, and anybody may have made it. */
  async #stillLost(chunks: readonly ChunkId[], signal: AbortSignal): Promise<ChunkId[]> {
    const lost: ChunkId[] = [];
    for (let at = 0; at < chunks.length; at += CHECKS_PER_REQUEST) {
      const page = chunks.slice(at, at + CHECKS_PER_REQUEST);
      for (const { chunk } of await check(this.#jetstream, { chunks: page }, signal)) lost.push(chunk);
    }
    return lost;
  }
}

/** What an announcement says, or undefined when it makes no sense: anybody may be at the other end. */
function readLost(data: Uint8Array): LostChunk | undefined {
  try {
    const { chunk, paths } = JSON.parse(Buffer.from(data).toString()) as Record<keyof LostChunk, unknown>;
    if (typeof chunk !== 'string' || !isChunkId(chunk) || !Array.isArray(paths) || paths.length > MAX_PATHS) {
      return undefined;
    }
    return { chunk, paths: paths.map((path: unknown) => parseStorePath(String(path))) };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
    if (error instanceof Error && error.name === 'NixError') return undefined;
    throw error;
  }
}
