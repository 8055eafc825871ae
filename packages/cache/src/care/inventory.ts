import { type NarHash, type StorePath, storePathHash } from '@nex-nix/nix';
import type { ChunkId } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { lastToken, MANIFEST_STREAM, MANIFEST_SUBJECTS, narHashDigits } from '../jetstream/layout.ts';
import { decodeManifest } from '../manifests/manifest.ts';
import { leaderMessage, leaderMessages } from './leader.ts';
import { CLAIM_LIFETIME_MS } from './claims.ts';
import { type Hold, readHolds } from './holds.ts';
import { type ListedRecord, type PathRecord, pathRecords } from './path-record.ts';
import { type Pin, readPins } from './pins.ts';

export interface StoredManifest {
  readonly seq: number;
  readonly data: Uint8Array;
}

/**
 * What the index of the cache holds, and what of the content it needs. `refresh` takes in what has come since: what is needed
 * once stays so.
 */
export class Inventory {
  /** By hash part. */
  readonly records = new Map<string, PathRecord>();
  /** By the digits of the NAR hash, as they were at the beginning. */
  readonly manifests = new Map<string, StoredManifest>();
  readonly pins = new Map<string, Pin>();
  /** As they were at the beginning. */
  readonly holds: Hold[] = [];
  readonly needed = { paths: new Set<string>(), manifests: new Set<string>(), chunks: new Set<ChunkId>() };

  readonly #jetstream: JetStream;
  readonly #signal: AbortSignal | undefined;
  /** Removed paths older than this have no content any more; Infinity when they have none from the first moment on. */
  readonly #graceEnd: number;
  readonly #now: number;
  #nextRecord = 1;
  #nextPin = 1;
  #nextHold = 1;

  /**
   * @param options.now - the time by the clock of the server.
   * @param options.manifests - false leaves out what paths need of manifests and chunks.
   */
  static async read(
    jetstream: JetStream,
    options: { now: number; grace: number; signal: AbortSignal | undefined; manifests?: boolean },
  ): Promise<Inventory> {
    const inventory = new Inventory(jetstream, options);
    await inventory.#readPins();
    for await (const record of inventory.#newRecords()) inventory.records.set(record.key, record);
    if (options.manifests === false) return inventory;
    inventory.holds.push(...(await inventory.#newHolds()));
    const region = { stream: MANIFEST_STREAM, subjects: MANIFEST_SUBJECTS };
    const task = { action: 'read the manifests', signal: options.signal, from: 1 };
    for await (const { subject, seq, data } of leaderMessages(jetstream, region, task)) {
      inventory.manifests.set(lastToken(subject), { seq, data });
    }
    return inventory;
  }

  private constructor(
    jetstream: JetStream,
    { now, grace, signal }: { now: number; grace: number; signal: AbortSignal | undefined },
  ) {
    this.#jetstream = jetstream;
    this.#signal = signal;
    this.#now = now;
    this.#graceEnd = grace === 0 ? Infinity : now - grace;
  }

  /** The listed paths. */
  listed(): ListedRecord[] {
    return [...this.records.values()].filter((record) => record.state === 'listed');
  }

  /** Whether a record keeps nothing: a deleted key, a removed path after its grace, a claim that was given up. */
  isVoid({ state, time }: PathRecord): boolean {
    if (state === 'removed') return time <= this.#graceEnd;
    return state === 'empty' || (state === 'claimed' && time < this.#now - CLAIM_LIFETIME_MS);
  }

  /**
   * The holds that keep nothing: those that were given up, and those of what has been listed since, which is kept for that, or
   * was removed again.
   */
  voidHolds(): Hold[] {
    const listedAt = new Map<NarHash, number>();
    for (const record of this.records.values()) {
      if (record.state !== 'listed' && record.state !== 'removed') continue;
      const { narHash } = record.info;
      listedAt.set(narHash, Math.max(record.time, listedAt.get(narHash) ?? 0));
    }
    return this.holds.filter(({ narHash, data, time }) => {
      if (time < this.#now - CLAIM_LIFETIME_MS) return true;
      const manifest = this.manifests.get(narHashDigits(narHash));
      const isListed = manifest !== undefined && Buffer.compare(manifest.data, data) === 0;
      return isListed && (listedAt.get(narHash) ?? 0) >= time;
    });
  }

  /** Marks what holds keep, those that are void aside. */
  markHolds(): void {
    const gone = new Set(this.voidHolds());
    for (const hold of this.holds) if (!gone.has(hold)) this.#markHold(hold);
  }

  /** Takes in the records, holds and pins that have come since, and marks what they need. */
  async refresh(): Promise<void> {
    for await (const record of this.#newRecords()) {
      this.records.set(record.key, record);
      await this.markRecord(record, { fresh: true });
    }
    for (const hold of await this.#newHolds()) this.#markHold(hold);
    for (const pin of await this.#readPins()) await this.markPaths(pin.versions.map(({ storePath }) => storePath));
  }

  /** Marks listed paths with all that they refer to. */
  async markPaths(paths: Iterable<StorePath>): Promise<void> {
    for (const path of paths) {
      const record = this.records.get(storePathHash(path));
      if (record?.state === 'listed') await this.markRecord(record);
    }
  }

  /**
   * Marks what a record needs: of a listed path its closure, of a claim what it is about to list, of a removed one its
   * content.
   * @param options.fresh - the manifest may be newer than the inventory.
   */
  async markRecord(record: PathRecord, { fresh = false }: { fresh?: boolean } = {}): Promise<void> {
    if (record.state === 'invalid') throw unreadable(record.key, record.error);
    if (record.state === 'empty' || this.isVoid(record)) return;
    if (record.state === 'removed') return this.#markContent(record.info.narHash, fresh);
    if (record.state === 'listed') {
      if (this.needed.paths.has(record.key) && !fresh) return;
      this.needed.paths.add(record.key);
      await this.#markContent(record.info.narHash, fresh);
      return this.markPaths(record.info.references);
    }
    this.needed.paths.add(record.key);
    for (const { info, manifest } of record.decoded) {
      for (const { id } of manifest.chunks) this.needed.chunks.add(id);
      await this.#markContent(info.narHash, fresh);
      await this.markPaths(info.references);
    }
  }

  async #markContent(narHash: NarHash, fresh: boolean): Promise<void> {
    const digits = narHashDigits(narHash);
    if (this.needed.manifests.has(digits) && !fresh) return;
    this.needed.manifests.add(digits);
    for (const id of await this.chunksOf(digits, fresh)) this.needed.chunks.add(id);
  }

  /** The chunks that a manifest names; none when it is not there. */
  async chunksOf(digits: string, fresh = false): Promise<ChunkId[]> {
    const manifest = fresh ? await this.#manifestNow(digits) : this.manifests.get(digits);
    return manifest === undefined ? [] : decodeManifest(manifest.data, digits).chunks.map(({ id }) => id);
  }

  async #manifestNow(digits: string): Promise<StoredManifest | undefined> {
    const where = { stream: MANIFEST_STREAM, last_by_subj: MANIFEST_SUBJECTS.replace('>', digits) };
    return leaderMessage(this.#jetstream, where, { action: `read the manifest "${digits}"`, signal: this.#signal });
  }

  async *#newRecords(): AsyncGenerator<PathRecord> {
    const task = { action: 'read the listed paths', signal: this.#signal, from: this.#nextRecord };
    for await (const record of pathRecords(this.#jetstream, task)) {
      yield record;
      this.#nextRecord = Math.max(this.#nextRecord, record.seq + 1);
    }
  }

  #markHold({ chunks }: Hold): void {
    for (const id of chunks) this.needed.chunks.add(id);
  }

  async #newHolds(): Promise<Hold[]> {
    const task = { action: 'read what is held', signal: this.#signal, from: this.#nextHold };
    const holds: Hold[] = [];
    for await (const hold of readHolds(this.#jetstream, task)) {
      holds.push(hold);
      this.#nextHold = Math.max(this.#nextHold, hold.seq + 1);
    }
    return holds;
  }

  async #readPins(): Promise<Pin[]> {
    const { pins, next } = await readPins(this.#jetstream, { from: this.#nextPin, signal: this.#signal });
    this.#nextPin = next;
    for (const pin of pins.values()) this.pins.set(pin.name, pin);
    return [...pins.values()];
  }
}

function unreadable(key: string, cause: CacheError): CacheError {
  return new CacheError(
    'CACHE_NARINFO_INVALID',
    `Cannot collect garbage: what is listed under "${key}" cannot be read (${cause.message})`,
    { cause, hint: `Find out with verify, or take it away: nats kv del nix_narinfo ${key}` },
  );
}
