import type { NatsConnection } from '@nats-io/nats-core';
import {
  type NarOptions,
  parsePublicKey,
  type PathInfo,
  type PathSource,
  type PublicKey,
  queryClosure,
  type StorePath,
} from '@nex-nix/nix';
import { call, callOnce, noService } from './protocol/call.ts';
import {
  type CachePath,
  type CachePin,
  collect,
  type CollectOptions,
  listPaths,
  listPins,
  type PinOptions,
  pinPath,
  removeFromCache,
  type RemoveOptions,
  resolvePin,
  unpinName,
} from './care/care-client.ts';
import type { GarbageReport } from './care/collector.ts';
import { Healer, type HealOptions } from './care/healer.ts';
import { pushUnbroken } from './care/push-unbroken.ts';
import type { RemoveReport } from './care/removal.ts';
import { reportDamage } from './care/report-damage.ts';
import { type CacheVerifyOptions, type CacheVerifyReport, verifyCache } from './care/verify.ts';
import { readChunks } from './chunks/chunk-store.ts';
import { pathNotFound } from './service/closure.ts';
import { decodeEntries, decodeEntry, type DecodedEntry } from './manifests/entry.ts';
import { type JetStream, openJetStream } from './jetstream/jetstream.ts';
import type { LocalChunks } from './chunks/local-chunks.ts';
import { ManifestCache } from './manifests/manifest-cache.ts';
import type { Manifest } from './manifests/manifest.ts';
import { isNotEnabled, noJetStream, serverName, toCacheError } from './jetstream/nats-errors.ts';
import { requirePayload } from './jetstream/payload.ts';
import {
  type About,
  type CacheStat,
  decodeJson,
  encodePaths,
  PATHS_PER_REQUEST,
  SUBJECTS,
} from './protocol/protocol.ts';
import type { PushOptions, PushReport } from './push/push.ts';
import { SharedChunks } from './chunks/shared-chunks.ts';

interface SignalOptions {
  signal?: AbortSignal | undefined;
}

interface OpenOptions extends SignalOptions {
  /** How long a read waits for a damaged chunk to be brought back, in ms. @default 5000 */
  healingMs?: number | undefined;
}

const HEALING_MS = 5000;

/**
 * A cache in NATS as a client sees it. It holds nothing open but what the connection does, which stays the caller's.
 *
 * What it says is not to be believed unless a trusted key has signed it, and what it sends not unless its NAR hash has been
 * verified: `copyClosure` does both. Chunks are verified here.
 */
export class NatsCache implements PathSource {
  /** Where the cache is, for messages: `nats://host:port`. */
  readonly name: string;
  /** The key that the cache signs with. */
  readonly publicKey: PublicKey;
  readonly #jetstream: JetStream;
  readonly #healingMs: number;
  readonly #manifests = new ManifestCache();
  readonly #shared = new SharedChunks((id) => this.#manifests.isShared(id));

  /**
   * Finds the cache of the connection's account.
   * @throws `CacheError` `CACHE_UNAVAILABLE` when no service answers, `CACHE_NO_JETSTREAM`, `CACHE_PAYLOAD_LIMIT`
   */
  static async open(nc: NatsConnection, { signal, healingMs = HEALING_MS }: OpenOptions = {}): Promise<NatsCache> {
    requirePayload(nc);
    const jetstream = await openJetStream(nc);
    const about = await askAbout(jetstream, signal);
    return new NatsCache(jetstream, { publicKey: parsePublicKey(about.publicKey), healingMs });
  }

  private constructor(jetstream: JetStream, { publicKey, healingMs }: { publicKey: PublicKey; healingMs: number }) {
    this.#jetstream = jetstream;
    this.#healingMs = healingMs;
    this.name = serverName(jetstream.nc);
    this.publicKey = publicKey;
  }

  /** What the cache knows of a path, or undefined when it does not have it. */
  async pathInfo(path: StorePath, { signal }: SignalOptions = {}): Promise<PathInfo | undefined> {
    return (await this.#entry(path, signal))?.info;
  }

  /**
   * Everything that `roots` refer to, themselves included, references first, in one request.
   * @throws `CacheError` `CACHE_PATH_NOT_FOUND`, naming the path
   */
  async closure(roots: readonly StorePath[], { signal }: SignalOptions = {}): Promise<PathInfo[]> {
    const infos: PathInfo[] = [];
    for (let at = 0; at < roots.length; at += PATHS_PER_REQUEST) {
      const body = encodePaths(roots.slice(at, at + PATHS_PER_REQUEST));
      const entries = await this.#entries({ subject: SUBJECTS.closure, body }, { action: 'query a closure', signal });
      for (const { info } of entries) infos.push(info);
    }
    const answer: PathSource = {
      name: this.name,
      pathInfo: async (path) => infos.find(({ storePath }) => storePath === path),
      closure: async () => infos,
      nar: (info, nar) => this.nar(info, nar),
    };
    return queryClosure(answer, roots);
  }

  /**
   * The uncompressed NAR of a path. Chunks are fetched ahead, and each is verified before it is handed on. One that is lost or
   * damaged is waited for: a node that holds the path brings it back.
   * @throws `CacheError` `CACHE_PATH_NOT_FOUND`, `CACHE_CHUNK_MISSING`, `CACHE_CHUNK_CORRUPT`
   */
  nar(info: PathInfo, options: NarOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#nar(info, options);
  }

  /**
   * The cache as a source for the store of `local`, and for no other: chunks that paths of that store have are read there and not
   * fetched, and what is pulled is remembered for the next time.
   */
  reusing(local: LocalChunks): PathSource {
    return {
      name: this.name,
      pathInfo: (path, options) => this.pathInfo(path, options),
      closure: (roots, options) => this.closure(roots, options),
      nar: (info, options) => this.#nar(info, options, local),
    };
  }

  async *#nar(info: PathInfo, { signal, reuseChunks }: NarOptions = {}, local?: LocalChunks) {
    const manifest = this.#manifests.get(info) ?? (await this.#fetchManifest(info, signal));
    const path = info.storePath;
    const onDamage = (error: unknown, inner: AbortSignal) =>
      reportDamage(this.#jetstream, { error, path, waitMs: this.#healingMs }, inner);
    const task = { path, signal, reuseChunks, shared: this.#shared, local: local?.reader(), onDamage };
    yield* readChunks(this.#jetstream, manifest, task);
    local?.remember(path, manifest);
  }

  /**
   * Brings the closure of `roots` into the cache. Paths that it has are not read, chunks that it has are not sent; a path
   * is listed when all its content is there and its references are listed. May be interrupted, repeated, and run by several
   * at once.
   * @throws `CacheError`; what was done until then is kept.
   */
  async push(source: PathSource, roots: readonly StorePath[], options: PushOptions = {}): Promise<PushReport> {
    return pushUnbroken(this.#jetstream, { source, roots }, options);
  }

  /** How much the cache holds. */
  async stat({ signal }: SignalOptions = {}): Promise<CacheStat> {
    const task = { action: 'ask the cache for its statistics', signal };
    return decodeJson(await call(this.#jetstream, { subject: SUBJECTS.stat }, task), 'its statistics') as CacheStat;
  }

  /** All listed paths, in the order in which they were pushed. */
  list({ signal }: SignalOptions = {}): AsyncGenerator<CachePath, void, undefined> {
    return listPaths(this.#jetstream, signal);
  }

  /** All pins, by name. */
  async pins({ signal }: SignalOptions = {}): Promise<CachePin[]> {
    return listPins(this.#jetstream, signal);
  }

  /**
   * Makes a path the newest version of a pin. What a pin's versions refer to is not collected.
   * @throws `CacheError` `CACHE_PATH_NOT_FOUND`, `CACHE_PIN_NAME_INVALID`
   */
  async pin(name: string, storePath: StorePath, options: PinOptions = {}): Promise<void> {
    return pinPath(this.#jetstream, { name, storePath }, options);
  }

  /** Forgets a pin with all its versions. @returns whether there was one. */
  async unpin(name: string, { signal }: SignalOptions = {}): Promise<boolean> {
    return unpinName(this.#jetstream, name, signal);
  }

  /** The newest version of a pin, or undefined when there is no such pin. */
  async resolvePin(name: string, { signal }: SignalOptions = {}): Promise<StorePath | undefined> {
    return resolvePin(this.#jetstream, name, signal);
  }

  /**
   * Takes paths out of the cache. Their content goes with a later collection.
   * @throws `CacheError` `CACHE_PATH_NOT_FOUND`; `CACHE_PATH_IN_USE`, naming what pins a path or refers to it
   */
  async remove(paths: readonly StorePath[], options: RemoveOptions = {}): Promise<RemoveReport> {
    return removeFromCache(this.#jetstream, paths, options);
  }

  /**
   * Removes paths that retention does not keep, and deletes content that no path needs. Safe beside pushes and pulls.
   * @throws `CacheError` `CACHE_COLLECTION_RUNNING`
   */
  async collectGarbage(options: CollectOptions = {}): Promise<GarbageReport> {
    return collect(this.#jetstream, options);
  }

  /** Reads all that is listed, reports what is damaged, and has it repaired from a source that holds the paths. */
  async verify(options: CacheVerifyOptions = {}): Promise<CacheVerifyReport> {
    return verifyCache(this.#jetstream, options);
  }

  /** Brings chunks back that the cache has lost, when `source` has their paths, until it is disposed of. */
  heal(source: PathSource, options: HealOptions = {}): Healer {
    return new Healer(this.#jetstream, source, options);
  }

  async #fetchManifest(info: PathInfo, signal: AbortSignal | undefined): Promise<Manifest> {
    const entry = await this.#entry(info.storePath, signal);
    if (entry === undefined) throw pathNotFound(info.storePath);
    return entry.manifest;
  }

  async #entry(path: StorePath, signal: AbortSignal | undefined): Promise<DecodedEntry | undefined> {
    const question = { subject: SUBJECTS.info, body: encodePaths([path]) };
    const entries = await this.#entries(question, { action: `look up "${path}"`, signal });
    return entries.find(({ info }) => info.storePath === path);
  }

  async #entries(
    question: { subject: string; body: string },
    task: { action: string; signal: AbortSignal | undefined },
  ): Promise<DecodedEntry[]> {
    const entries = decodeEntries(await call(this.#jetstream, question, task));
    return entries.map((entry) => {
      const decoded = decodeEntry(entry, this.name);
      this.#manifests.add(decoded.manifest);
      return decoded;
    });
  }
}

async function askAbout(jetstream: JetStream, signal: AbortSignal | undefined): Promise<About> {
  try {
    return decodeJson(await callOnce(jetstream, { subject: SUBJECTS.about }, signal), 'itself') as About;
  } catch (error) {
    const failure = noService(error, jetstream);
    if (failure !== error) await requireJetStream(jetstream);
    throw toCacheError(failure, 'open the cache', jetstream.nc);
  }
}

/** Throws when the reason why no cache service answers is that there cannot be one. */
async function requireJetStream({ nc, jsm }: JetStream): Promise<void> {
  try {
    await jsm.getAccountInfo();
  } catch (error) {
    if (isNotEnabled(error)) throw noJetStream(error, 'open the cache', nc);
  }
}
