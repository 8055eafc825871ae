import type { JetStream } from '../jetstream/jetstream.ts';
import { CARE_STREAM, NARINFO_STREAM, narHashDigits } from '../jetstream/layout.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import { type StoredChunk, storedChunks } from './chunk-list.ts';
import { CollectionLock } from './collection-lock.ts';
import { type Doomed, DOOMED_AT_ONCE, type DoomedMessage, spare } from './doomed.ts';
import { Inventory } from './inventory.ts';
import { Journal } from './journal.ts';
import { deleteMessage } from './leader.ts';
import type { ListedRecord, RemovedRecord } from './path-record.ts';
import { outdatedPaths } from './retention.ts';
import { readUsage } from './usage.ts';

/** What a collection is to do, as it travels. */
export interface CollectionRequest {
  /** Removes paths that were neither pushed nor asked for in so many ms. */
  readonly olderThan?: number | undefined;
  /** Removes paths, those first that were not used longest, until the chunks of all take no more than this. */
  readonly maxBytes?: number | undefined;
  /** How long content stays, in ms, that no path needs any more, or not yet: for pulls and pushes that are under way. */
  readonly grace: number;
  readonly dryRun?: boolean | undefined;
}

/** What a collection did, or would do. */
export interface GarbageReport {
  /** Paths that are not listed any more. */
  readonly paths: number;
  readonly manifests: number;
  readonly chunks: number;
  /** Bytes of these chunks, as they were stored. */
  readonly freedBytes: number;
  /** Bytes of chunks that no path needs, but which are kept until they are older than `graceMs`. */
  readonly laterBytes: number;
  /** The grace that was given, in ms. */
  readonly graceMs: number;
  /** Bytes by which what is pinned, or is being pushed, exceeds `maxBytes`; 0 without one. */
  readonly excessBytes: number;
  readonly keptPaths: number;
  /** Bytes of all chunks that stay. */
  readonly keptBytes: number;
}

/** Longer than the pull of a closure takes. */
export const DEFAULT_GRACE_MS = 10 * 60 * 1000;
/** Messages deleted at once. */
const WINDOW = 32;

/** Finds out what nobody needs, and deletes it. Safe beside everything else: see docs/decisions/0010. */
export async function collectGarbage(
  jetstream: JetStream,
  request: CollectionRequest,
  signal: AbortSignal | undefined,
): Promise<GarbageReport> {
  await using lock = await CollectionLock.take(jetstream, signal);
  // Awaited here, so that the lock is held until then.
  return await new Collector(jetstream, lock, { request, signal }).run();
}

class Collector {
  readonly #jetstream: JetStream;
  readonly #lock: CollectionLock;
  readonly #request: CollectionRequest;
  readonly #signal: AbortSignal | undefined;
  readonly #journal: Journal;

  constructor(
    jetstream: JetStream,
    lock: CollectionLock,
    { request, signal }: { request: CollectionRequest; signal: AbortSignal | undefined },
  ) {
    this.#jetstream = jetstream;
    this.#lock = lock;
    this.#request = request;
    this.#signal = signal;
    this.#journal = new Journal(jetstream);
  }

  async run(): Promise<GarbageReport> {
    const { grace, olderThan, maxBytes, dryRun = false } = this.#request;
    const now = this.#lock.time;
    const chunks = await storedChunks(this.#jetstream, this.#signal);
    const used = await readUsage(this.#jetstream, this.#signal);
    const inventory = await Inventory.read(this.#jetstream, { now, grace, signal: this.#signal });

    // What must stay whatever its age; then what retention lets go; then all the rest must stay as well.
    await inventory.markPaths([...inventory.pins.values()].flatMap(({ versions }) => versions.map((v) => v.storePath)));
    const removed: RemovedRecord[] = [];
    for (const record of inventory.records.values()) {
      if (record.state === 'removed') removed.push(record);
      else if (record.state !== 'listed') await inventory.markRecord(record);
    }
    inventory.markHolds();
    const before = olderThan === undefined ? undefined : now - olderThan;
    const { paths: outdated, excessBytes } = await outdatedPaths(inventory, { used, chunks }, { before, maxBytes });
    const leaving = new Set(outdated.map(({ key }) => key));
    const listed = inventory.listed();
    for (const record of listed) {
      if (!leaving.has(record.key)) await inventory.markRecord(record);
    }
    /** Content that is not needed, but was until a short time ago. */
    const late = { manifests: new Set<string>(), chunks: new Set<ChunkId>() };
    const justRemoved = removed.filter((record) => !inventory.isVoid(record));
    if (grace > 0) await this.#addContent(inventory, [...outdated, ...justRemoved], late);

    const plan = this.#plan(inventory, { chunks, late, outdated });
    const laterBytes = sum(plan.later.map((id) => chunks.get(id)?.size ?? 0));
    const done = dryRun ? plan.doomed : await this.#execute(inventory, plan.doomed, used);
    const freedBytes = sum(done.chunks.map(([id]) => chunks.get(id)?.size ?? 0));
    return {
      paths: done.paths.length,
      manifests: done.manifests.length,
      chunks: done.chunks.length,
      freedBytes,
      laterBytes,
      graceMs: grace,
      excessBytes,
      keptPaths: listed.length - done.paths.length,
      keptBytes: sum([...chunks.values()].map(({ size }) => size)) - freedBytes,
    };
  }

  async #addContent(
    inventory: Inventory,
    outdated: readonly (ListedRecord | RemovedRecord)[],
    late: { manifests: Set<string>; chunks: Set<ChunkId> },
  ): Promise<void> {
    for (const { info } of outdated) {
      const digits = narHashDigits(info.narHash);
      late.manifests.add(digits);
      for (const id of await inventory.chunksOf(digits)) late.chunks.add(id);
    }
  }

  #plan(
    { needed, manifests }: Inventory,
    state: {
      chunks: ReadonlyMap<ChunkId, StoredChunk>;
      late: { manifests: ReadonlySet<string>; chunks: ReadonlySet<ChunkId> };
      outdated: readonly { key: string; seq: number }[];
    },
  ): { doomed: Doomed; later: ChunkId[] } {
    const { late, outdated } = state;
    const youngest = this.#request.grace === 0 ? Infinity : this.#lock.time - this.#request.grace;
    const doomed: DoomedMessage<ChunkId>[] = [];
    const later: ChunkId[] = [];
    for (const [id, { seq, time }] of state.chunks) {
      if (needed.chunks.has(id)) continue;
      if (late.chunks.has(id) || time > youngest) later.push(id);
      else doomed.push([id, seq]);
    }
    return {
      later,
      doomed: {
        paths: outdated.map(({ key, seq }) => [key, seq]),
        manifests: [...manifests]
          .filter(([digits]) => !needed.manifests.has(digits) && !late.manifests.has(digits))
          .map(([digits, { seq }]) => [digits, seq]),
        chunks: doomed,
      },
    };
  }

  /** @returns what was deleted. */
  async #execute(
    inventory: Inventory,
    { paths, manifests, chunks }: Doomed,
    used: ReadonlyMap<string, { readonly seq: number }>,
  ): Promise<Doomed> {
    await this.#deleteVoid(inventory, used);
    const removed = await this.#delete(inventory, { paths }, 'removing paths');
    const emptied = await this.#delete(inventory, { manifests }, 'deleting content');
    const freed = await this.#delete(inventory, { chunks }, 'deleting content');
    return { paths: removed.paths, manifests: emptied.manifests, chunks: freed.chunks };
  }

  /** Deletes page by page, and looks before each what has come to be needed. */
  async #delete(
    inventory: Inventory,
    items: Partial<Doomed>,
    phase: 'removing paths' | 'deleting content',
  ): Promise<Doomed> {
    const all: Doomed = { paths: [], manifests: [], chunks: [], ...items };
    const total = Math.max(all.paths.length, all.manifests.length, all.chunks.length);
    const done: Doomed[] = [];
    for (let at = 0; at < total; at += DOOMED_AT_ONCE) {
      this.#lock.progress = { phase, done: at, total };
      const page = pageOf(all, at);
      const recheck = async () => {
        await inventory.refresh();
        return spare(page, inventory.needed);
      };
      done.push((await this.#journal.delete(page, recheck, this.#signal)) ?? { paths: [], manifests: [], chunks: [] });
    }
    return {
      paths: done.flatMap(({ paths }) => paths),
      manifests: done.flatMap(({ manifests }) => manifests),
      chunks: done.flatMap(({ chunks }) => chunks),
    };
  }

  /** Deletes records and holds that keep nothing, and notes on the use of paths that are not listed. */
  async #deleteVoid(inventory: Inventory, used: ReadonlyMap<string, { readonly seq: number }>): Promise<void> {
    const records = [...inventory.records.values()].filter((record) => inventory.isVoid(record));
    const notes = [...used].filter(([key]) => inventory.records.get(key)?.state !== 'listed');
    const messages = [
      ...records.map(({ seq }) => ({ stream: NARINFO_STREAM, seq })),
      ...notes.map(([, { seq }]) => ({ stream: CARE_STREAM, seq })),
      ...inventory.voidHolds().map(({ seq }) => ({ stream: CARE_STREAM, seq })),
    ];
    const remove = (message: { stream: string; seq: number }, signal: AbortSignal) =>
      deleteMessage(this.#jetstream, message, { action: 'delete what is outdated', signal });
    const deletions = mapOrdered(messages, remove, { window: WINDOW, signal: this.#signal });
    while ((await deletions.next()).done !== true);
  }
}

function pageOf({ paths, manifests, chunks }: Doomed, at: number): Doomed {
  const end = at + DOOMED_AT_ONCE;
  return { paths: paths.slice(at, end), manifests: manifests.slice(at, end), chunks: chunks.slice(at, end) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
