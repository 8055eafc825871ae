import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceMsg } from '@nats-io/services';
import { parseStorePath } from '@nex-nix/nix';
import type { Answer } from '../service/answer.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { CacheError } from '../errors.ts';
import { decodeJson, decodePaths } from '../protocol/protocol.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import { collectionProgress } from './collection-lock.ts';
import { collectGarbage, type CollectionRequest, DEFAULT_GRACE_MS } from './collector.ts';
import { announceLost, checkChunks, type DamagedChunk, readChunkIds } from './damage.ts';
import { holdManifest } from './holds.ts';
import { Ledger } from './ledger.ts';
import { pathPage } from './path-page.ts';
import { PinStore } from './pins.ts';
import { removePaths } from './removal.ts';
import { Usage } from './usage.ts';

export type CareHandler = (request: ServiceMsg, answer: Answer, signal: AbortSignal) => Promise<void>;

/** Requests that read chunks to check them, at once. */
const CHECKS_AT_ONCE = 2;
/** For which the answer to a check waits at most until what is lost is back. */
const LONGEST_WAIT_MS = 30_000;
/** After which what is lost is announced again. */
const ANNOUNCE_MS = 1000;

/** What the service does beside reading and committing: pins, retention, removal, verification. */
export class CareEndpoints {
  readonly read: Readonly<Record<string, CareHandler>>;
  readonly write: Readonly<Record<string, CareHandler>>;
  readonly pin: Readonly<Record<string, CareHandler>>;
  readonly care: Readonly<Record<string, CareHandler>>;
  readonly usage: Usage;

  readonly #context: ServiceContext;
  readonly #pins: PinStore;
  readonly #ledger: Ledger;
  readonly #checks = new Semaphore(CHECKS_AT_ONCE);

  constructor(context: ServiceContext) {
    this.#context = context;
    this.#pins = new PinStore(context.jetstream, context.index);
    this.#ledger = new Ledger(context.jetstream);
    this.usage = new Usage(context.jetstream);
    this.read = {
      list: async (request, answer, signal) => answer.end(await pathPage(context.jetstream, request.string(), signal)),
      pins: async (_request, answer, signal) => answer.end(JSON.stringify(await this.#pins.list(signal))),
      check: (request, answer, signal) => this.#check(request, answer, signal),
      collection: async (_request, answer, signal) =>
        answer.end(JSON.stringify((await collectionProgress(context.jetstream, signal)) ?? null)),
    };
    this.write = {
      hold: async (request, answer, signal) => {
        const has = (id: ChunkId) => context.presence.has(id);
        answer.end(JSON.stringify(await holdManifest(context.jetstream, request.data, { has, signal })));
      },
      used: async (request, answer) => {
        this.usage.note(decodePaths(request.string()));
        answer.end();
      },
    };
    this.pin = {
      set: async (request, answer, signal) => {
        const { name, storePath, keep } = fields(request, 'a pin');
        const version = { path: parseStorePath(String(storePath)), keep: Number(keep) };
        await this.#pins.pin(String(name), version, signal);
        answer.end();
      },
      delete: async (request, answer, signal) => {
        const { name } = fields(request, 'a pin');
        answer.end(JSON.stringify(await this.#pins.unpin(String(name), signal)));
      },
    };
    this.care = {
      collect: async (request, answer, signal) => {
        const report = await collectGarbage(context.jetstream, readRequest(request), signal);
        answer.end(JSON.stringify(report));
      },
      remove: async (request, answer, signal) => {
        const { paths, force } = fields(request, 'a removal');
        const removed = await removePaths(
          { jetstream: context.jetstream, pins: this.#pins },
          decodePaths(String(paths)),
          { force: force === true, signal },
        );
        answer.end(JSON.stringify(removed));
      },
    };
  }

  /** Listed paths, the sum of their NARs, and pins. */
  async totals(signal: AbortSignal): Promise<{ paths: number; logicalBytes: number; pins: number }> {
    const [totals, pins] = await Promise.all([this.#ledger.totals(signal), this.#pins.list(signal)]);
    return { ...totals, pins: pins.length };
  }

  async #check(request: ServiceMsg, answer: Answer, signal: AbortSignal): Promise<void> {
    const { chunks, path, waitMs } = fields(request, 'a check');
    let damaged = await this.#damaged(readChunkIds(chunks), signal);
    if (typeof path === 'string' && damaged.length > 0) {
      const ids = damaged.map(({ chunk }) => chunk);
      const patience = Math.min(typeof waitMs === 'number' ? waitMs : 0, LONGEST_WAIT_MS);
      const ending = AbortSignal.any([signal, AbortSignal.timeout(patience)]);
      const over = this.#context.presence.awaitStored(ids, ending).then(() => true);
      // Again and again: a node that has the path may be without its connection at the moment, or come only now.
      for (let isOver = false; !isOver;) {
        await announceLost(this.#context, { damaged, path: parseStorePath(path) }, signal);
        isOver = await Promise.race([over, delay(ANNOUNCE_MS, false, { ref: false })]);
      }
      if (patience > 0) damaged = await this.#damaged(ids, signal);
    }
    answer.end(JSON.stringify(damaged));
  }

  async #damaged(chunks: readonly ChunkId[], signal: AbortSignal): Promise<DamagedChunk[]> {
    using _ = await this.#checks.acquire(1, signal);
    return checkChunks(this.#context, chunks, signal);
  }
}

function readRequest(request: ServiceMsg): CollectionRequest {
  const { olderThan, maxBytes, grace, dryRun } = fields(request, 'a collection');
  const amount = (value: unknown, name: string): number | undefined => {
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value >= 0 && Number.isFinite(value)) return value;
    throw new CacheError('CACHE_PROTOCOL', `Cannot collect garbage: ${name} is no amount`);
  };
  return {
    olderThan: amount(olderThan, 'olderThan'),
    maxBytes: amount(maxBytes, 'maxBytes'),
    grace: amount(grace, 'grace') ?? DEFAULT_GRACE_MS,
    dryRun: dryRun === true,
  };
}

function fields(request: ServiceMsg, what: string): Readonly<Record<string, unknown>> {
  const value = decodeJson(request.data, what);
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  throw new CacheError('CACHE_PROTOCOL', `Cannot read the request for ${what}: it is no object`);
}
