import type { IncomingMessage } from 'node:http';
import type { NatsConnection } from '@nats-io/nats-core';
import { decompress, formatNarInfo, formatNarListing, listNar, type NarInfo, STORE_DIR } from '@nex-nix/nix';
import { hold } from '../care/holds.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import { CacheError } from '../errors.ts';
import { type JetStream, openJetStream } from '../jetstream/jetstream.ts';
import type { Logger } from '../service/logger.ts';
import type { NatsCache } from '../nats-cache.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import { Compressor } from '../chunks/zstd.ts';
import { type AccessOptions, authorize } from './authorization.ts';
import { bodyOf, gather } from './body.ts';
import { getLog, LOG_SIZE_MAX, putLog } from './build-logs.ts';
import type { Exchange } from './exchange.ts';
import { DamageReports, isDamage } from './damage-reports.ts';
import { NarIndex } from './nar-index.ts';
import { receiveNar } from './receive-nar.ts';
import { receiveNarInfo } from './receive-narinfo.ts';
import { RecentMap } from './recent-map.ts';
import { Refusal } from './refusal.ts';
import { type Compression, isCompression, narFileName, type NarFile, type Route, routeOf } from './routes.ts';
import { sendNar } from './send-nar.ts';
import { type UpstreamOptions, Upstreams } from './upstreams.ts';

interface DoorOptions extends AccessOptions {
  priority?: number | undefined;
  compression?: 'none' | 'zstd' | undefined;
  maxUploadSize?: number | undefined;
  normaliseUploads?: boolean | undefined;
  idleTimeout?: number | undefined;
  upstreams?: UpstreamOptions | undefined;
  logger?: Logger | undefined;
}

type WriteRoute = Exclude<Route, { kind: 'cache-info' }>;

const DEFAULT_PRIORITY = 30;
const DEFAULT_MAX_UPLOAD = 8 * 1024 ** 3;
const DEFAULT_IDLE_TIMEOUT = 60_000;
/** How much larger than the largest upload a NAR may be. */
const EXPANSION_MAX = 8;
/** Bytes of a narinfo or another small text. */
const TEXT_MAX = 1024 * 1024;
/** Uploads at once: each holds up to 30 MiB. Others wait before their body is asked for. */
const UPLOADS_AT_ONCE = 4;
const UPLOADS_WAITING = 64;
/** NARs sent at once: each holds up to eight chunks. */
const DOWNLOADS_AT_ONCE = 16;
/** Listings made at once: each reads a whole NAR. */
const LISTINGS_AT_ONCE = 2;
const FRAME_SIZES = 200_000;

/** Answers the requests of Nix clients, in the layout of Nix's binary caches. */
export class Door implements Disposable {
  readonly #jetstream: JetStream;
  readonly #cache: NatsCache;
  readonly #options: DoorOptions;
  readonly #index: NarIndex;
  readonly #damage: DamageReports;
  readonly #upstreams: Upstreams | undefined;
  readonly #compressor = new Compressor();
  readonly #frameSizes = new RecentMap<string, number>(FRAME_SIZES);
  readonly #uploads = new Semaphore(UPLOADS_AT_ONCE);
  #waitingUploads = 0;
  readonly #downloads = new Semaphore(DOWNLOADS_AT_ONCE);
  readonly #listings = new Semaphore(LISTINGS_AT_ONCE);
  readonly #idleTimeout: number;
  readonly #maxUpload: number;

  static async open(nc: NatsConnection, cache: NatsCache, options: DoorOptions): Promise<Door> {
    return new Door(await openJetStream(nc), cache, options);
  }

  private constructor(jetstream: JetStream, cache: NatsCache, options: DoorOptions) {
    this.#jetstream = jetstream;
    this.#cache = cache;
    this.#options = options;
    this.#index = new NarIndex(jetstream);
    this.#damage = new DamageReports(jetstream, options.logger);
    this.#upstreams = options.upstreams === undefined ? undefined : new Upstreams(cache, options.upstreams);
    this.#idleTimeout = options.idleTimeout ?? DEFAULT_IDLE_TIMEOUT;
    this.#maxUpload = options.maxUploadSize ?? DEFAULT_MAX_UPLOAD;
  }

  /** To be called when nothing is under way. */
  [Symbol.dispose](): void {
    this.#compressor[Symbol.dispose]();
  }

  /**
   * Answers one request.
   * @param proceed - tells the client to send the body. Whatever forbids that is thrown before.
   */
  async answer(exchange: Exchange, proceed: () => void): Promise<void> {
    const { method = '', url = '/' } = exchange.request;
    const target = URL.parse(url, 'http://localhost');
    const route = target === null ? undefined : routeOf(target.pathname);
    if (method === 'GET' || method === 'HEAD') {
      authorize(exchange.request, this.#options, 'read');
      if (target === null || route === undefined) throw notFound();
      await this.#read(exchange, { route, wanted: target.searchParams.get('compression') });
    } else if (method === 'PUT') {
      authorize(exchange.request, this.#options, 'write');
      if (route === undefined) throw new Refusal(404, `Cannot write "${url}": a binary cache has no such file`);
      await this.#write(exchange, route, proceed);
    } else {
      throw new Refusal(405, `Cannot ${method}: a binary cache has GET, HEAD and PUT`, {
        headers: { allow: 'GET, HEAD, PUT' },
      });
    }
  }

  async #read(exchange: Exchange, what: { route: Route; wanted: string | null }): Promise<void> {
    try {
      await this.#send(exchange, what);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#damage.log(error);
      if (exchange.response.headersSent) throw error;
      // A client then goes on to its next cache, or builds; what is answered by 500 it asks for again and again, and gives up.
      throw new Refusal(404, error.message, { cause: error });
    }
  }

  async #send(exchange: Exchange, { route, wanted }: { route: Route; wanted: string | null }): Promise<void> {
    const { signal } = exchange;
    switch (route.kind) {
      case 'cache-info': {
        const priority = this.#options.priority ?? DEFAULT_PRIORITY;
        const text = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: ${priority}\n`;
        return sendText(exchange, text, 'text/x-nix-cache-info');
      }
      case 'narinfo': {
        const info = await this.#find(route.hashPart, signal);
        return sendText(exchange, this.#narInfoText(info, wanted), 'text/x-nix-narinfo');
      }
      case 'listing': {
        const info = await this.#find(route.hashPart, signal);
        if (exchange.request.method === 'HEAD') return sendText(exchange, '', 'application/json');
        using _ = await this.#listings.acquire(1, signal);
        const listing = await listNar(this.#cache.nar(info, { signal }), { maxSize: info.narSize, signal });
        return sendText(exchange, formatNarListing(listing), 'application/json');
      }
      case 'log': {
        const text = await getLog(this.#jetstream, route.derivation, signal);
        if (text === undefined) throw notFound();
        return sendText(exchange, text, 'text/plain; charset=utf-8');
      }
      case 'nar': {
        using _ = await this.#downloads.acquire(1, signal);
        return this.#sendNar(exchange, route.file);
      }
    }
  }

  async #sendNar(exchange: Exchange, file: NarFile): Promise<void> {
    const { request, signal } = exchange;
    const nar = await this.#index.nar(file, signal);
    if (nar === undefined) throw notFound();
    let healing: Promise<boolean> | undefined;
    // Once for all chunks, which are looked at together.
    const onDamage = (error: unknown) => (healing ??= this.#damage.heal(error, nar, signal));
    if (nar.lacks !== undefined) {
      const error = lost(nar.lacks, file);
      // An uploader asks by HEAD, and brings it back itself.
      if (request.method === 'HEAD' || !(await onDamage(error))) throw error;
    }
    const reader = { jetstream: this.#jetstream, compressor: this.#compressor, frameSizes: this.#frameSizes, onDamage };
    await sendNar(exchange, { reader, nar, idleTimeout: this.#idleTimeout });
  }

  async #find(hashPart: string, signal: AbortSignal): Promise<NarInfo> {
    const info = await this.#index.find(hashPart, signal);
    if (info !== undefined) return info;
    const isFetched = (await this.#upstreams?.fetch(hashPart, signal)) ?? false;
    const fetched = isFetched ? await this.#index.find(hashPart, signal) : undefined;
    if (fetched === undefined) throw notFound();
    return fetched;
  }

  #narInfoText(info: NarInfo, wanted: string | null): string {
    const compression = wanted ?? this.#options.compression ?? 'zstd';
    if (compression !== 'none' && compression !== 'zstd') {
      throw new Refusal(400, `Cannot send NARs compressed by "${compression}": there are none and zstd`);
    }
    const narHash = info.narHash.slice(info.narHash.indexOf(':') + 1);
    return formatNarInfo({ ...info, url: `nar/${narFileName(narHash, compression)}`, compression });
  }

  async #write(exchange: Exchange, route: Route, proceed: () => void): Promise<void> {
    const maxSize = route.kind === 'nar' ? this.#maxUpload : route.kind === 'log' ? LOG_SIZE_MAX : TEXT_MAX;
    const announced = Number(exchange.request.headers['content-length'] ?? 0);
    if (announced > maxSize) {
      throw new Refusal(413, `Cannot take ${announced} bytes: at most ${maxSize} are allowed here`);
    }
    if (route.kind === 'nar') {
      requireCompression(route.file);
      using _ = await this.#uploadPermit(exchange.signal);
      proceed();
      await this.#receiveNar(exchange, route.file);
    } else if (route.kind === 'cache-info') {
      proceed();
      requireStoreDir((await this.#small(exchange, TEXT_MAX)).toString());
    } else {
      const encoding = contentEncoding(exchange.request);
      proceed();
      await this.#receiveSmall(exchange, { route, encoding, maxSize });
    }
    exchange.response.writeHead(route.kind === 'nar' ? 201 : 200, { 'content-length': 0 }).end();
  }

  async #receiveNar({ request, signal }: Exchange, file: NarFile): Promise<void> {
    const body = bodyOf(request, { idleTimeout: this.#idleTimeout, maxSize: this.#maxUpload, signal });
    const received = await receiveNar(
      this.#jetstream,
      {
        file,
        body,
        maxNarSize: EXPANSION_MAX * this.#maxUpload,
        normalise: this.#options.normaliseUploads ?? false,
      },
      signal,
    );
    await this.#index.aliases.put(file.name, received, signal);
    // Until its narinfo comes, nothing else says that its chunks are needed.
    if (await hold(this.#jetstream, received.manifest, { action: `keep "${file.name}"`, signal })) return;
    await this.#index.aliases.drop(file.name, signal);
    const why = 'a collection has removed what it has in common with others meanwhile';
    throw new Refusal(424, `Cannot take "${file.name}": ${why}\nCopy the path again`);
  }

  async #receiveSmall(
    exchange: Exchange,
    { route, encoding, maxSize }: { route: WriteRoute; encoding: Compression; maxSize: number },
  ): Promise<void> {
    const { signal } = exchange;
    const body = await this.#small(exchange, maxSize, encoding);
    if (route.kind === 'narinfo') {
      const sent = { hashPart: route.hashPart, text: body.toString() };
      await receiveNarInfo({ jetstream: this.#jetstream, index: this.#index }, sent, signal);
    } else if (route.kind === 'log') {
      await putLog(this.#jetstream, { derivation: route.derivation, text: body }, signal);
    }
    // A listing is made of the NAR when somebody asks for it, so what a client says of it is not needed.
  }

  async #small({ request, signal }: Exchange, maxSize: number, encoding: Compression = 'none'): Promise<Buffer> {
    const body = bodyOf(request, { idleTimeout: this.#idleTimeout, maxSize, signal });
    return gather(limited(decompress(body, encoding, { origin: request.url ?? '' }), maxSize));
  }

  /** Waits for a place; the client does not send its body yet, or is not listened to. */
  async #uploadPermit(signal: AbortSignal): Promise<Disposable> {
    if (this.#waitingUploads >= UPLOADS_WAITING) {
      throw new Refusal(503, 'Cannot take a NAR now: too many wait already', { headers: { 'retry-after': '5' } });
    }
    this.#waitingUploads++;
    try {
      return await this.#uploads.acquire(1, signal);
    } finally {
      this.#waitingUploads--;
    }
  }
}

function lost(chunk: ChunkId, { name }: NarFile): CacheError {
  return new CacheError('CACHE_CHUNK_MISSING', `Cannot send "${name}": the cache has lost its chunk "${chunk}"`, {
    chunk,
    hint: 'Run nex cache verify --repair where its path is',
  });
}

function notFound(): Refusal {
  return new Refusal(404, 'Not in this cache');
}

function sendText({ request, response }: Exchange, text: string | Buffer, type: string): void {
  const body = Buffer.from(text);
  const isHead = request.method === 'HEAD';
  response.writeHead(200, { 'content-type': type, ...(isHead ? {} : { 'content-length': body.length }) });
  response.end(isHead ? undefined : body);
}

function requireCompression({ name, compression }: NarFile): void {
  if (compression !== undefined) return;
  throw new Refusal(
    415,
    `Cannot take "${name}": there are none, zstd, xz, bzip2, gzip and br; use nix copy --to "URL?compression=zstd"`,
  );
}

function requireStoreDir(text: string): void {
  const storeDir = /^StoreDir: *(\S+)$/m.exec(text)?.[1];
  if (storeDir === STORE_DIR) return;
  throw new Refusal(409, `Cannot be a cache of "${storeDir ?? 'nothing'}": this is one of ${STORE_DIR}`);
}

function contentEncoding(request: IncomingMessage): Compression {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding === 'identity') return 'none';
  if (isCompression(encoding)) return encoding;
  throw new Refusal(415, `Cannot decode "${encoding}": there are gzip, br, zstd, xz and bzip2`);
}

async function* limited(source: AsyncIterable<Uint8Array>, maxSize: number): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const bytes of source) {
    size += bytes.length;
    if (size > maxSize) throw new Refusal(413, `Cannot take more than ${maxSize} bytes`);
    yield bytes;
  }
}
