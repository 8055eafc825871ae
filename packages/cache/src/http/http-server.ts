import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { NatsConnection } from '@nats-io/nats-core';
import type { PublicKey } from '@nex-nix/nix';
import { CacheError } from '../errors.ts';
import type { Logger } from '../service/logger.ts';
import { NatsCache } from '../nats-cache.ts';
import type { AccessOptions } from './authorization.ts';
import { Door } from './door.ts';
import { type Refusal, refusalOf } from './refusal.ts';
import type { UpstreamOptions } from './upstreams.ts';

/** Options of {@link CacheHttpServer.start}. Times are in milliseconds. */
export interface CacheHttpServerOptions extends AccessOptions {
  /** @default '127.0.0.1' */
  host?: string | undefined;
  /** @default 0, which is any free one */
  port?: number | undefined;
  /** In `nix-cache-info`: the lower, the earlier a client asks this cache. @default 30 */
  priority?: number | undefined;
  /** How NARs are sent to a client that does not ask for either with `?compression=`. @default 'zstd' */
  compression?: 'none' | 'zstd' | undefined;
  /** Bytes that an uploaded file may have. @default 8 GiB */
  maxUploadSize?: number | undefined;
  /** Stores what is uploaded without store hashes, so that a build that differs in these only adds next to nothing. @default false */
  normaliseUploads?: boolean | undefined;
  /** Speaks HTTPS with this certificate, the chain up to its authority included, and its key. Both PEM. @default HTTP */
  tls?: { readonly cert: string; readonly key: string } | undefined;
  /** After which a client that neither sends nor takes anything is given up. @default 60000 */
  idleTimeout?: number | undefined;
  /** Caches that are asked for what this one lacks. @default none */
  upstreams?: UpstreamOptions | undefined;
  logger?: Logger | undefined;
  signal?: AbortSignal | undefined;
}

/** What is under way when the server stops may take this long. */
const GRACE_MS = 10_000;
/** Longer than clients keep connections between two requests of one copy. */
const KEEP_ALIVE_MS = 75_000;
/** For which the rest of a body is read that is of no use, so that the client reads the answer. */
const LINGER_MS = 10_000;

/**
 * A Nix binary cache over HTTP in front of a cache in NATS. It is a client of that cache like any other and holds no state:
 * several may run, anywhere. The connection stays the caller's.
 */
export class CacheHttpServer implements AsyncDisposable {
  /** `http://host:port`, or `https://…` */
  readonly url: string;
  /** The key that the cache signs with: for `trusted-public-keys` of clients. */
  readonly publicKey: PublicKey;
  readonly #server: Server;
  readonly #door: Door;
  readonly #logger: Logger | undefined;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #closed: Promise<void> | undefined;

  /**
   * Finds the cache of the connection's account, and listens.
   * @throws {@link CacheError} as `NatsCache.open`; `CACHE_LISTEN_FAILED`; `CACHE_TLS_INVALID`
   */
  static async start(nc: NatsConnection, options: CacheHttpServerOptions = {}): Promise<CacheHttpServer> {
    const server = newServer(options);
    const cache = await NatsCache.open(nc, { signal: options.signal });
    const door = await Door.open(nc, cache, options);
    try {
      await listen(server, options);
    } catch (error) {
      door[Symbol.dispose]();
      throw error;
    }
    return new CacheHttpServer({ server, door, cache, options });
  }

  private constructor({
    server,
    door,
    cache,
    options,
  }: {
    server: Server;
    door: Door;
    cache: NatsCache;
    options: CacheHttpServerOptions;
  }) {
    this.#server = server;
    this.#door = door;
    this.#logger = options.logger;
    this.publicKey = cache.publicKey;
    const { address, port, family } = server.address() as AddressInfo;
    const scheme = options.tls === undefined ? 'http' : 'https';
    this.url = `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    server.on('request', (request, response) => this.#run(request, response, false));
    server.on('checkContinue', (request, response) => this.#run(request, response, true));
  }

  /** Takes no more requests, and waits up to ten seconds for those under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#stopping.abort(), GRACE_MS);
    await Promise.all(this.#running);
    clearTimeout(timer);
    this.#stopping.abort();
    this.#server.closeAllConnections();
    await closed;
    this.#door[Symbol.dispose]();
  }

  #run(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    const running = this.#answer(request, response, expectsContinue).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #answer(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    // What happens to the connection is told by its closing.
    response.on('error', () => undefined);
    const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
    const exchange = { request, response, signal, isBodyComing: !expectsContinue };
    try {
      await this.#door.answer(exchange, () => {
        exchange.isBodyComing = true;
        if (expectsContinue) response.writeContinue();
      });
    } catch (error) {
      if (gone.signal.aborted) return;
      const isPut = request.method === 'PUT';
      const refusal = refusalOf(error, { final: isPut && exchange.isBodyComing });
      if (refusal.status >= 424) {
        this.#logger?.error({ method: request.method, url: request.url, err: error }, 'cache request failed');
      }
      refuse(exchange, refusal);
    }
  }
}

/** Answers with a refusal; a client that has a part of its answer already must see that the rest is missing. */
function refuse(
  { request, response, isBodyComing }: { request: IncomingMessage; response: ServerResponse; isBodyComing: boolean },
  { status, message, headers }: Refusal,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body = Buffer.from(`${message}\n`);
  // A client that was not told to go on may send its body all the same, or not.
  const connection = isBodyComing ? {} : { connection: 'close' };
  const head = {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': body.length,
    ...connection,
    ...headers,
  };
  response.writeHead(status, head);
  response.end(request.method === 'HEAD' ? undefined : body);
  if (request.complete || !isBodyComing) return;
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS);
  for (const event of ['end', 'close']) request.once(event, () => clearTimeout(timer));
  request.resume();
}

function newServer({ tls }: CacheHttpServerOptions): Server {
  const options = { requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS };
  if (tls === undefined) return createServer(options);
  try {
    return createTlsServer({ ...options, ...tls });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CacheError('CACHE_TLS_INVALID', `Cannot use the certificate and the key for HTTPS: ${why}`, {
      cause,
      hint: 'Give the certificate, or its chain, and the private key that belongs to it as PEM, without a passphrase',
    });
  }
}

async function listen(server: Server, { host = '127.0.0.1', port = 0 }: CacheHttpServerOptions): Promise<void> {
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (cause) {
    const { code = 'unknown' } = cause as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'something listens there already' : code;
    throw new CacheError('CACHE_LISTEN_FAILED', `Cannot listen on ${host}:${port}: ${why}`, {
      cause,
      hint: 'Choose another address or port, or 0 for any free port',
    });
  }
}
