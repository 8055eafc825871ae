import type { NatsConnection } from '@nats-io/nats-core';
import { type Service, type ServiceGroup, type ServiceMsg, Svcm } from '@nats-io/services';
import { isNexError } from '@nex-nix/errors';
import {
  checkTrust,
  formatPublicKey,
  parseNarHash,
  type PublicKey,
  publicKeyOf,
  type SecretKey,
  type StorePath,
} from '@nex-nix/nix';
import { Answer } from './answer.ts';
import { packBits } from '../protocol/bitmap.ts';
import { CHUNK_ID_SIZE, unpackChunkIds } from '../chunks/chunk-id.ts';
import { closureEntries, knownEntries } from './closure.ts';
import { commitPath, listVerified, verifyPath } from './commit.ts';
import { CareEndpoints } from '../care/care-endpoints.ts';
import { decodeEntries, encodeEntries, type Entry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import { addSignatures } from '../http/add-signatures.ts';
import { foundEntries } from '../http/found-entries.ts';
import { IndexStore, type StoredNarInfo } from './index-store.ts';
import { openJetStream } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, MANIFEST_STREAM, NARINFO_STREAM } from '../jetstream/layout.ts';
import type { Logger } from './logger.ts';
import { requirePayload } from '../jetstream/payload.ts';
import { PresenceSet } from './presence-set.ts';
import {
  type About,
  type CacheStat,
  CARE_GROUP,
  decodeHashParts,
  decodePaths,
  decodeVerified,
  PIN_GROUP,
  READ_GROUP,
  SERVICE_NAME,
  SERVICE_VERSION,
  WRITE_GROUP,
} from '../protocol/protocol.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import type { ServiceContext } from './service-context.ts';
import { createStreams, type StorageOptions } from '../jetstream/streams.ts';
import { VERIFY_MEMORY } from './verify-content.ts';

export interface CacheServiceOptions extends StorageOptions {
  /** Signs what the cache accepts. All services of one account should use the same key. */
  secretKey: SecretKey;
  logger?: Logger | undefined;
  signal?: AbortSignal | undefined;
}

type Handler = (request: ServiceMsg, answer: Answer, signal: AbortSignal) => Promise<void>;

/**
 * The service `NixCache` that stands before the streams of a cache: answers what is stored, and alone lists and signs what
 * was pushed. Several may run in one account; each request goes to one of them. The connection stays the caller's.
 */
export class CacheService implements AsyncDisposable {
  readonly publicKey: PublicKey;
  readonly #context: ServiceContext;
  readonly #care: CareEndpoints;
  readonly #logger: Logger | undefined;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #service: Service | undefined;
  #watching: Promise<void> | undefined;

  /**
   * Makes the streams that are missing, reads the names of the stored chunks, and begins to answer.
   * @throws {@link CacheError} `CACHE_NO_JETSTREAM`, `CACHE_UNAVAILABLE`, `CACHE_PAYLOAD_LIMIT`
   */
  static async start(nc: NatsConnection, options: CacheServiceOptions): Promise<CacheService> {
    const { secretKey, logger, signal } = options;
    requirePayload(nc);
    const jetstream = await openJetStream(nc);
    await createStreams(jetstream, options);
    const index = await IndexStore.open(jetstream);
    const presence = await PresenceSet.open(jetstream, signal);
    const service = new CacheService(
      {
        jetstream,
        index,
        presence,
        secretKey,
        publicKey: publicKeyOf(secretKey),
        verifying: new Semaphore(VERIFY_MEMORY),
      },
      logger,
    );
    try {
      await service.#serve();
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
    return service;
  }

  private constructor(context: ServiceContext, logger: Logger | undefined) {
    this.#context = context;
    this.#care = new CareEndpoints(context);
    this.#logger = logger;
    this.publicKey = context.publicKey;
  }

  /** How often each endpoint of this service, named by its subject, was asked, and how often the answer was an error. */
  async counts(): Promise<{ subject: string; requests: number; errors: number }[]> {
    const { endpoints = [] } = (await this.#service?.stats()) ?? {};
    return endpoints.map((one) => ({ subject: one.subject, requests: one.num_requests, errors: one.num_errors }));
  }

  /** Stops answering; commits under way are given up, to be repeated by their publishers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#service?.stop();
    await this.#watching;
    await Promise.all(this.#running);
    this.#context.presence[Symbol.dispose]();
  }

  async #serve(): Promise<void> {
    const { nc } = this.#context.jetstream;
    this.#service = await new Svcm(nc).add({
      name: SERVICE_NAME,
      version: SERVICE_VERSION,
      description: 'A Nix binary cache that lives in JetStream',
      metadata: { public_key: formatPublicKey(this.publicKey) },
    });
    this.#watching = this.#watch(this.#service);
    const read = this.#service.addGroup(READ_GROUP);
    this.#endpoint(read, 'about', async (_request, answer) => answer.end(JSON.stringify(this.#about())));
    this.#endpoint(read, 'stat', async (_request, answer, signal) =>
      answer.end(JSON.stringify(await this.#stat(signal))),
    );
    this.#endpoint(read, 'have', async (request, answer) => answer.end(this.#have(request)));
    this.#endpoint(read, 'known', async (request, answer, signal) => answer.end(await this.#known(request, signal)));
    this.#endpoint(read, 'info', (request, answer, signal) =>
      writeEntries(answer, knownEntries(this.#context.index, decodePaths(request.string()), signal)),
    );
    this.#endpoint(read, 'closure', (request, answer, signal) => {
      const roots = decodePaths(request.string());
      this.#care.usage.note(roots);
      return writeEntries(answer, closureEntries(this.#context.index, roots, signal));
    });
    this.#endpoint(read, 'find', (request, answer, signal) => {
      const note = (path: StorePath) => this.#care.usage.note([path]);
      return writeEntries(
        answer,
        foundEntries(this.#context.index, decodeHashParts(request.string()), { note, signal }),
      );
    });
    this.#endpoint(read, 'nar', async (request, answer, signal) =>
      answer.end(await this.#context.index.manifest(parseNarHash(request.string()), signal)),
    );
    const write = this.#service.addGroup(WRITE_GROUP);
    this.#endpoint(write, 'sign', async (request, answer, signal) =>
      answer.end(JSON.stringify(await addSignatures(this.#context, request.string(), signal))),
    );
    this.#endpoint(write, 'commit', async (request, answer, signal) => {
      const outcome = await commitPath(this.#context, oneEntry(request), signal);
      this.#logger?.info({ ...outcome, bytes: request.data.length }, 'cache commit');
      answer.end(JSON.stringify(outcome));
    });
    this.#endpoint(write, 'verify', async (request, answer, signal) =>
      answer.end(JSON.stringify(await verifyPath(this.#context, oneEntry(request), signal))),
    );
    this.#endpoint(write, 'list', async (request, answer, signal) => {
      const outcomes = await listVerified(this.#context, decodeVerified(request.data), signal);
      this.#logger?.info({ paths: outcomes.length }, 'cache paths listed');
      answer.end(JSON.stringify(outcomes));
    });
    const { pin, care } = this.#care;
    const groups = [
      [read, this.#care.read],
      [write, this.#care.write],
      [this.#service.addGroup(PIN_GROUP), pin],
      [this.#service.addGroup(CARE_GROUP), care],
    ] as const;
    for (const [group, handlers] of groups) {
      for (const [name, handler] of Object.entries(handlers)) this.#endpoint(group, name, handler);
    }
    await nc.flush();
  }

  async #watch(service: Service): Promise<void> {
    const error = await service.stopped;
    if (error !== null && error !== undefined) this.#logger?.error({ err: error }, 'the cache service has ended');
  }

  /** The service framework does not wait for asynchronous handlers: they are kept here, and answer their own failures. */
  #endpoint(group: ServiceGroup, name: string, handler: Handler): void {
    group.addEndpoint(name, {
      handler: (error, request) => {
        if (error !== null) return;
        this.#run(request, handler);
      },
    });
  }

  #run(request: ServiceMsg, handler: Handler): void {
    const running = this.#handle(request, handler).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #handle(request: ServiceMsg, handler: Handler): Promise<void> {
    using answer = new Answer(request);
    const { signal } = this.#stopping;
    try {
      await handler(request, answer, signal);
    } catch (error) {
      if (signal.aborted) {
        answer.fail(new CacheError('CACHE_UNAVAILABLE', 'Cannot answer: the cache service is stopping'));
        return;
      }
      this.#logger?.error({ subject: request.subject, err: error }, 'cache request failed');
      answer.fail(isNexError(error) ? error : serviceFailed(error));
    }
  }

  #about(): About {
    return { version: SERVICE_VERSION, publicKey: formatPublicKey(this.publicKey) };
  }

  async #stat(signal: AbortSignal): Promise<CacheStat> {
    const { jsm } = this.#context.jetstream;
    const [chunks, manifests, narInfos] = await Promise.all([
      jsm.streams.info(CHUNK_STREAM),
      jsm.streams.info(MANIFEST_STREAM),
      jsm.streams.info(NARINFO_STREAM),
    ]);
    const totals = await this.#care.totals(signal);
    const storedBytes = chunks.state.bytes + manifests.state.bytes + narInfos.state.bytes;
    return {
      ...totals,
      manifests: manifests.state.messages,
      chunks: chunks.state.messages,
      storedBytes,
      dedupRatio: totals.paths === 0 ? 1 : totals.logicalBytes / storedBytes,
    };
  }

  #have(request: ServiceMsg): Uint8Array {
    if (request.data.length % CHUNK_ID_SIZE !== 0) {
      throw new CacheError('CACHE_PROTOCOL', 'Cannot look up chunks: the last id of the request is cut off');
    }
    return packBits(unpackChunkIds(request.data).map((id) => this.#context.presence.has(id)));
  }

  async #known(request: ServiceMsg, signal: AbortSignal): Promise<Uint8Array> {
    const { index, publicKey } = this.#context;
    const isKnown = (stored: StoredNarInfo | undefined) =>
      stored !== undefined && checkTrust(stored.info, [publicKey]).trusted;
    return packBits(await Array.fromAsync(index.narInfos(decodePaths(request.string()), signal), isKnown));
  }
}

function oneEntry(request: ServiceMsg): Entry {
  const [entry, ...others] = decodeEntries(request.data);
  if (entry !== undefined && others.length === 0) return entry;
  throw new CacheError('CACHE_PROTOCOL', `Cannot commit ${others.length + 1} entries at once: one is expected`);
}

async function writeEntries(answer: Answer, entries: AsyncIterable<Entry>): Promise<void> {
  for await (const entry of entries) answer.write(encodeEntries([entry]));
  answer.end();
}

function serviceFailed(cause: unknown): CacheError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new CacheError('CACHE_SERVICE_FAILED', `Cannot answer the request: the cache service failed (${why})`, {
    cause,
  });
}
