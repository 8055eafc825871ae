import type { KV } from '@nats-io/kv';
import { Kvm } from '@nats-io/kv';
import { type NarHash, type NarInfo, type StorePath, storePathHash } from '@nex-nix/nix';
import { deleteMessage } from '../care/leader.ts';
import { type Entry, readNarInfo } from '../manifests/entry.ts';
import { CacheError, REPAIR_HINT } from '../errors.ts';
import { attempt, type JetStream, lastMessage, storeOnce, type StoredMessage } from '../jetstream/jetstream.ts';
import { lastMessages } from '../jetstream/last-messages.ts';
import {
  hashPartSubject,
  KV_OPERATION_HEADER,
  MANIFEST_STREAM,
  manifestSubject,
  NARINFO_BUCKET,
  NARINFO_STREAM,
  narInfoSubject,
} from '../jetstream/layout.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { isAlreadyStored } from '../jetstream/nats-errors.ts';

/** Paths that are looked up together: what is known of them is in memory at once. */
const BATCH = 128;
/** Batches that are looked up at once. */
const WINDOW = 2;

/** A narinfo as it is stored. */
export interface StoredNarInfo {
  readonly text: string;
  readonly info: NarInfo;
  /** Revision in the key-value bucket. */
  readonly revision: number;
}

/** An entry, and its narinfo, read. */
export interface IndexEntry {
  readonly entry: Entry;
  readonly info: NarInfo;
}

/** A path, and its entry if the cache lists it. */
export interface LookedUp {
  readonly path: StorePath;
  readonly found: IndexEntry | undefined;
}

/** Narinfos and manifests: what the service reads for its clients, and alone writes. */
export class IndexStore {
  readonly #jetstream: JetStream;
  readonly #narInfos: KV;

  static async open(jetstream: JetStream): Promise<IndexStore> {
    return new IndexStore(jetstream, await new Kvm(jetstream.nc).open(NARINFO_BUCKET));
  }

  private constructor(jetstream: JetStream, narInfos: KV) {
    this.#jetstream = jetstream;
    this.#narInfos = narInfos;
  }

  /** The narinfo of a path, or undefined when the cache does not list it. */
  async narInfo(path: StorePath, signal?: AbortSignal): Promise<StoredNarInfo | undefined> {
    const message = await lastMessage(
      this.#jetstream,
      { stream: NARINFO_STREAM, subject: narInfoSubject(path) },
      { action: `look up "${path}"`, signal },
    );
    return ofPath(message, path);
  }

  /** {@link narInfo} of each path, in the same order. */
  async *narInfos(paths: readonly StorePath[], signal?: AbortSignal): AsyncGenerator<StoredNarInfo | undefined> {
    const lookUp = async (batch: readonly StorePath[], inner: AbortSignal) => {
      const messages = await this.#narInfoMessages(batch.map(storePathHash), inner);
      return batch.map((path, i) => ofPath(messages[i], path));
    };
    for await (const batch of mapOrdered(batches(paths), lookUp, { window: WINDOW, signal })) yield* batch;
  }

  /**
   * The entry of a path, or undefined when the cache does not list it. Its manifest is handed on as it is stored.
   * @throws {@link CacheError} `CACHE_MANIFEST_INVALID` when it is listed without a manifest.
   */
  async entry(path: StorePath, signal?: AbortSignal): Promise<IndexEntry | undefined> {
    const [looked] = await Array.fromAsync(this.entries([path], signal));
    return looked?.found;
  }

  /** {@link entry} of each path, in the same order. */
  async *entries(paths: readonly StorePath[], signal?: AbortSignal): AsyncGenerator<LookedUp> {
    const lookUp = async (batch: readonly StorePath[], inner: AbortSignal) => {
      const messages = await this.#narInfoMessages(batch.map(storePathHash), inner);
      const stored = batch.map((path, i) => ofPath(messages[i], path));
      const found = await this.#withManifests(stored, inner);
      return batch.map((path, i) => ({ path, found: found[i] }));
    };
    for await (const batch of mapOrdered(batches(paths), lookUp, { window: WINDOW, signal })) yield* batch;
  }

  /** {@link entries} of the paths with these hash parts, the 32 symbols that their base names begin with. */
  async *entriesByHash(hashParts: readonly string[], signal?: AbortSignal): AsyncGenerator<IndexEntry | undefined> {
    const lookUp = async (batch: readonly string[], inner: AbortSignal) => {
      const messages = await this.#narInfoMessages(batch, inner);
      const stored = batch.map((hashPart, i) => {
        const found = decodeNarInfo(messages[i], hashPart);
        return found !== undefined && storePathHash(found.info.storePath) === hashPart ? found : undefined;
      });
      return this.#withManifests(stored, inner);
    };
    for await (const batch of mapOrdered(batches(hashParts), lookUp, { window: WINDOW, signal })) yield* batch;
  }

  /** The encoded manifest of a NAR, or undefined when the cache does not have it. */
  async manifest(narHash: NarHash, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const message = await lastMessage(
      this.#jetstream,
      { stream: MANIFEST_STREAM, subject: manifestSubject(narHash) },
      { action: `look up the NAR "${narHash}"`, signal },
    );
    return message?.data;
  }

  /**
   * Stores a manifest, unless its NAR has one.
   * @returns false when it has.
   */
  async storeManifest(
    narHash: NarHash,
    body: Uint8Array,
    task: { path: StorePath; signal?: AbortSignal },
  ): Promise<boolean> {
    const action = `store the manifest of "${task.path}"`;
    return storeOnce(this.#jetstream, { subject: manifestSubject(narHash), body }, { action, signal: task.signal });
  }

  /** The manifest of a NAR as it is stored, and its place in the stream. */
  async storedManifest(
    narHash: NarHash,
    task: { path: StorePath; signal?: AbortSignal | undefined },
  ): Promise<StoredMessage | undefined> {
    const where = { stream: MANIFEST_STREAM, subject: manifestSubject(narHash) };
    return lastMessage(this.#jetstream, where, {
      action: `fetch the manifest of "${task.path}"`,
      signal: task.signal,
    });
  }

  /** Deletes the manifest at this place, if it is still there. */
  async dropManifest(seq: number, task: { path: StorePath; signal?: AbortSignal | undefined }): Promise<void> {
    const action = `replace the manifest of "${task.path}"`;
    await deleteMessage(this.#jetstream, { stream: MANIFEST_STREAM, seq }, { action, signal: task.signal });
  }

  /**
   * Lists a path; or replaces the narinfo that has this `revision`.
   * @returns false when somebody else has written it meanwhile.
   */
  async storeNarInfo(
    path: StorePath,
    text: string,
    { revision, signal }: { revision: number | undefined; signal?: AbortSignal },
  ): Promise<boolean> {
    const key = storePathHash(path);
    return attempt(this.#jetstream.nc, { action: `list "${path}"`, signal }, async () => {
      try {
        if (revision === undefined) await this.#narInfos.create(key, text);
        else await this.#narInfos.update(key, text, revision);
        return true;
      } catch (error) {
        if (isAlreadyStored(error)) return false;
        throw error;
      }
    });
  }

  async #narInfoMessages(hashParts: readonly string[], signal: AbortSignal): Promise<(StoredMessage | undefined)[]> {
    const subjects = hashParts.map(hashPartSubject);
    const action = `look up ${severalOf('path', hashParts)}`;
    const found = await lastMessages(this.#jetstream, { stream: NARINFO_STREAM, subjects }, { action, signal });
    return subjects.map((subject) => found.get(subject));
  }

  async #withManifests(
    stored: readonly (StoredNarInfo | undefined)[],
    signal: AbortSignal,
  ): Promise<(IndexEntry | undefined)[]> {
    const listed = stored.filter((found) => found !== undefined).map(({ info }) => info);
    const subjects = listed.map(({ narHash }) => manifestSubject(narHash));
    const action = `fetch the manifest of ${severalOf(
      'path',
      listed.map(({ storePath }) => storePath),
    )}`;
    const found = await lastMessages(this.#jetstream, { stream: MANIFEST_STREAM, subjects }, { action, signal });
    return stored.map((narInfo) => {
      if (narInfo === undefined) return undefined;
      const { info, text } = narInfo;
      const manifest = found.get(manifestSubject(info.narHash))?.data;
      if (manifest === undefined) throw manifestLost(info.storePath);
      return { entry: { narInfo: text, manifest }, info };
    });
  }
}

/** For the message of an error. */
function severalOf(what: string, names: readonly string[]): string {
  const first = `"${names[0] ?? ''}"`;
  return names.length > 1 ? `${first} and ${names.length - 1} more ${what}s` : first;
}

function* batches<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += BATCH) yield items.slice(at, at + BATCH);
}

function decodeNarInfo(message: StoredMessage | undefined, origin: string): StoredNarInfo | undefined {
  if (message === undefined || message.headers.has(KV_OPERATION_HEADER)) return undefined;
  const text = Buffer.from(message.data).toString();
  return { text, info: readNarInfo(text, origin), revision: message.seq };
}

/** The key is the hash part alone; another name with the same hash part is another path. */
function ofPath(message: StoredMessage | undefined, path: StorePath): StoredNarInfo | undefined {
  const found = decodeNarInfo(message, path);
  return found?.info.storePath === path ? found : undefined;
}

function manifestLost(path: StorePath): CacheError {
  return new CacheError('CACHE_MANIFEST_INVALID', `Cannot read the manifest of "${path}": the cache has lost it`, {
    hint: REPAIR_HINT,
    storePath: path,
  });
}
