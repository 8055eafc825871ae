import type { KV } from '@nats-io/kv';
import { Kvm } from '@nats-io/kv';
import { type NarHash, type NarInfo, type StorePath, storePathHash } from '@nex-nix/nix';
import { deleteMessage } from './care/leader.ts';
import { decodeEntry, type Entry, readNarInfo } from './entry.ts';
import { CacheError } from './errors.ts';
import { attempt, type JetStream, lastMessage, storeOnce, type StoredMessage } from './jetstream.ts';
import {
  hashPartSubject,
  KV_OPERATION_HEADER,
  MANIFEST_STREAM,
  manifestSubject,
  NARINFO_BUCKET,
  NARINFO_STREAM,
  narInfoSubject,
} from './layout.ts';
import { isAlreadyStored } from './nats-errors.ts';

/** A narinfo as it is stored. */
export interface StoredNarInfo {
  readonly text: string;
  readonly info: NarInfo;
  /** Revision in the key-value bucket. */
  readonly revision: number;
}

/** An entry, checked, and its narinfo. */
export interface IndexEntry {
  readonly entry: Entry;
  readonly info: NarInfo;
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
    if (message === undefined || message.headers.has(KV_OPERATION_HEADER)) return undefined;
    const text = Buffer.from(message.data).toString();
    const info = readNarInfo(text, path);
    // The key is the hash part alone; another name with the same hash part is another path.
    return info.storePath === path ? { text, info, revision: message.seq } : undefined;
  }

  /**
   * The entry of a path, or undefined when the cache does not list it.
   * @throws {@link CacheError} `CACHE_MANIFEST_INVALID` when it is listed without a manifest.
   */
  async entry(path: StorePath, signal?: AbortSignal): Promise<IndexEntry | undefined> {
    const stored = await this.narInfo(path, signal);
    if (stored === undefined) return undefined;
    const manifest = await this.#manifest(path, stored.info.narHash, signal);
    const entry = { narInfo: stored.text, manifest };
    return { entry, info: decodeEntry(entry, path).info };
  }

  /** {@link entry} of the path with this hash part, the 32 symbols that its base name begins with. */
  async entryByHash(hashPart: string, signal?: AbortSignal): Promise<IndexEntry | undefined> {
    const message = await lastMessage(
      this.#jetstream,
      { stream: NARINFO_STREAM, subject: hashPartSubject(hashPart) },
      { action: `look up the path "${hashPart}"`, signal },
    );
    if (message === undefined || message.headers.has(KV_OPERATION_HEADER)) return undefined;
    const narInfo = Buffer.from(message.data).toString();
    const { storePath, narHash } = readNarInfo(narInfo, hashPart);
    if (storePathHash(storePath) !== hashPart) return undefined;
    const entry = { narInfo, manifest: await this.#manifest(storePath, narHash, signal) };
    return { entry, info: decodeEntry(entry, storePath).info };
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

  async #manifest(path: StorePath, narHash: NarHash, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const message = await this.storedManifest(narHash, { path, signal });
    if (message !== undefined) return message.data;
    throw new CacheError('CACHE_MANIFEST_INVALID', `Cannot read the manifest of "${path}": the cache has lost it`, {
      hint: `Push the path again after: nats kv del ${NARINFO_BUCKET} ${storePathHash(path)}`,
      storePath: path,
    });
  }
}
