import type { NatsConnection } from '@nats-io/nats-core';
import {
  parsePublicKey,
  type PathInfo,
  type PathSource,
  type PublicKey,
  queryClosure,
  type StorePath,
} from '@nex-nix/nix';
import { call, callOnce, noService } from './call.ts';
import { readChunks } from './chunk-store.ts';
import { pathNotFound } from './closure.ts';
import { decodeEntries, decodeEntry, type DecodedEntry } from './entry.ts';
import { type JetStream, openJetStream } from './jetstream.ts';
import { ManifestCache } from './manifest-cache.ts';
import type { Manifest } from './manifest.ts';
import { isNotEnabled, noJetStream, serverName, toCacheError } from './nats-errors.ts';
import { requirePayload } from './payload.ts';
import { type About, type CacheStat, decodeJson, encodePaths, PATHS_PER_REQUEST, SUBJECTS } from './protocol.ts';
import { pushClosure, type PushOptions, type PushReport } from './push.ts';

interface SignalOptions {
  signal?: AbortSignal | undefined;
}

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
  readonly #manifests = new ManifestCache();

  /**
   * Finds the cache of the connection's account.
   * @throws `CacheError` `CACHE_UNAVAILABLE` when no service answers, `CACHE_NO_JETSTREAM`, `CACHE_PAYLOAD_LIMIT`
   */
  static async open(nc: NatsConnection, { signal }: SignalOptions = {}): Promise<NatsCache> {
    requirePayload(nc);
    const jetstream = await openJetStream(nc);
    const about = await askAbout(jetstream, signal);
    return new NatsCache(jetstream, parsePublicKey(about.publicKey));
  }

  private constructor(jetstream: JetStream, publicKey: PublicKey) {
    this.#jetstream = jetstream;
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
   * The uncompressed NAR of a path. Chunks are fetched ahead, and each is verified before it is handed on.
   * @throws `CacheError` `CACHE_PATH_NOT_FOUND`, `CACHE_CHUNK_MISSING`, `CACHE_CHUNK_CORRUPT`
   */
  async *nar(info: PathInfo, { signal }: SignalOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const manifest = this.#manifests.get(info) ?? (await this.#fetchManifest(info, signal));
    yield* readChunks(this.#jetstream, manifest, { path: info.storePath, signal });
  }

  /**
   * Brings the closure of `roots` into the cache. Paths that it has are not read, chunks that it has are not sent; a path
   * is listed when all its content is there and its references are listed. May be interrupted, repeated, and run by several
   * at once.
   * @throws `CacheError`; what was done until then is kept.
   */
  async push(source: PathSource, roots: readonly StorePath[], options: PushOptions = {}): Promise<PushReport> {
    return pushClosure(this.#jetstream, { source, roots }, options);
  }

  /** How much the cache holds. */
  async stat({ signal }: SignalOptions = {}): Promise<CacheStat> {
    const task = { action: 'ask the cache for its statistics', signal };
    return decodeJson(await call(this.#jetstream, { subject: SUBJECTS.stat }, task), 'its statistics') as CacheStat;
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
