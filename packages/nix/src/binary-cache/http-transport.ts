import { get as httpGet, type IncomingMessage } from 'node:http';
import { get as httpsGet } from 'node:https';
import type { CacheTransport } from './cache-transport.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';

const MAX_REDIRECTS = 10;
const DISCARD_MAX = 64 * 1024;
/** What Nix takes for "not there": buckets that may not be listed answer 403 for a missing file. */
const MISSING = new Set([403, 404, 410]);

export interface HttpTransportOptions {
  /** Milliseconds without a sign of life after which a request fails. */
  timeout: number;
  /** User name and password, sent to the origin of the cache only. */
  credentials?: { readonly origin: string; readonly authorization: string } | undefined;
}

/** Files over HTTP, by node's own client: it is markedly faster than `fetch` with large bodies. */
export function httpTransport(options: HttpTransportOptions): CacheTransport {
  return {
    async get(url, { signal }) {
      let location = url;
      for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
        const response = await request(location, options, signal);
        const { statusCode = 0, headers } = response;
        if (statusCode === 200) return body(response, location, { ...options, signal });
        discard(response);
        if (MISSING.has(statusCode)) return undefined;
        if (statusCode < 300 || statusCode > 399 || headers.location === undefined)
          throw statusError(location, statusCode);
        location = redirect(headers.location, location);
      }
      throw new NixError('NIX_CACHE_INVALID', `Cannot get "${url.href}": more than ${MAX_REDIRECTS} redirects`);
    },
  };
}

/** Lets a small rest pass so that the connection can be used again; a large one is not worth waiting for. */
function discard(response: IncomingMessage): void {
  if (Number(response.headers['content-length'] ?? Infinity) <= DISCARD_MAX) response.resume();
  else response.destroy();
}

function request(
  url: URL,
  { timeout, credentials }: HttpTransportOptions,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  signal?.throwIfAborted();
  const authorized = credentials?.origin === url.origin;
  const headers = { 'user-agent': 'nex-nix', ...(authorized ? { authorization: credentials.authorization } : {}) };
  return new Promise((resolve, reject) => {
    const get = url.protocol === 'https:' ? httpsGet : httpGet;
    const sent = get(url, { headers, ...(signal === undefined ? {} : { signal }) });
    const timer = setTimeout(() => sent.destroy(timeoutError(url, timeout)), timeout);
    sent.on('response', (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    sent.on('error', (error) => {
      clearTimeout(timer);
      reject(asCacheError(url, error, signal));
    });
  });
}

async function* body(
  response: IncomingMessage,
  url: URL,
  { timeout, signal }: HttpTransportOptions & SignalOptions,
): AsyncGenerator<Uint8Array, void> {
  // Only waiting for the server counts, not what the reader does in between.
  let waiting = true;
  const timer = setTimeout(() => {
    if (waiting) response.destroy(timeoutError(url, timeout));
  }, timeout);
  try {
    for await (const chunk of response) {
      waiting = false;
      yield chunk as Buffer;
      waiting = true;
      timer.refresh();
    }
  } catch (error) {
    throw asCacheError(url, error, signal);
  } finally {
    clearTimeout(timer);
  }
}

function redirect(location: string, from: URL): URL {
  const url = URL.parse(location, from.href);
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:')) return url;
  throw new NixError('NIX_CACHE_INVALID', `Cannot get "${from.href}": it redirects to "${location}"`);
}

function statusError(url: URL, status: number): NixError {
  if (status === 401 || status === 407) {
    return new NixError('NIX_CACHE_REFUSED', `Cannot get "${url.href}": the server answers ${status}`, {
      hint: 'Put user name and password into the URL of the cache: https://USER:PASSWORD@HOST',
    });
  }
  const busy = status === 408 || status === 429 || status >= 500;
  return new NixError(
    busy ? 'NIX_CACHE_UNREACHABLE' : 'NIX_CACHE_INVALID',
    `Cannot get "${url.href}": the server answers ${status}`,
  );
}

function timeoutError(url: URL, timeout: number): NixError {
  return new NixError('NIX_CACHE_UNREACHABLE', `Cannot get "${url.href}": nothing came for ${timeout} ms`);
}

function asCacheError(url: URL, error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof NixError || !(error instanceof Error)) return error;
  const code = 'code' in error ? ` (${String(error.code)})` : '';
  return new NixError(
    'NIX_CACHE_UNREACHABLE',
    `Cannot get "${url.href}": ${error.message || 'the connection failed'}${code}`,
    {
      hint: `See whether the server is up: curl -I ${url.origin}`,
      cause: error,
    },
  );
}
