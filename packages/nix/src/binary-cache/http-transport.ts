import type { OutgoingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SignalOptions } from '../abortable.ts';
import type { CacheTransport, UploadContent } from './cache-transport.ts';
import { decompress } from './decompress.ts';
import {
  discard,
  isBusy,
  isPassing,
  isSame,
  redirect,
  retryAfter,
  statusError,
  type Version,
  versionOf,
} from './http-answer.ts';
import { action, type HttpAnswer, HttpClient, type HttpRequest, shownUrl } from './http-request.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { NixError } from '../nix-error.ts';

const REDIRECTS_MAX = 10;
const DELAY_MAX = 10_000;
/** A server that wants more than a minute of patience is given up at once. */
const RETRY_AFTER_MAX = 60_000;
/** What must arrive before a transfer that breaks off counts as a new one. */
const PROGRESS = 1024 * 1024;
/** What Nix takes for "not there": buckets that may not be listed answer 403 for a missing file. */
const MISSING = new Set([403, 404, 410]);
const ENCODINGS = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

export interface HttpTransportOptions {
  /** Milliseconds without a sign of life after which a request fails. */
  timeout: number;
  /** How often a request that failed for a passing reason is repeated. */
  retries: number;
  /** Milliseconds before the first repetition; each next one waits twice as long. */
  retryDelay: number;
  /** The `Authorization` header for the origin of the cache; no other origin gets it. */
  authorization: (url: URL) => Promise<string | undefined>;
}

/** Files over HTTP, by node's own client: it is markedly faster than `fetch` with large bodies. */
export class HttpTransport implements CacheTransport {
  readonly #options: HttpTransportOptions;
  readonly #client: HttpClient;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    this.#client = new HttpClient(options.timeout);
  }

  async get(url: URL, options: NarOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    const answer = await this.#request(url, { method: 'GET', headers: {}, signal: options.signal });
    const { statusCode = 0, headers } = answer.response;
    if (MISSING.has(statusCode)) {
      discard(answer);
      return undefined;
    }
    if (statusCode !== 200) throw await statusError(answer);
    const content = this.#wholeBody(url, answer, options);
    const encoding = headers['content-encoding']?.toLowerCase() ?? 'identity';
    if (encoding === 'identity') return content;
    const compression = ENCODINGS.get(encoding);
    if (compression !== undefined)
      return decompress(content, compression, { origin: shownUrl(url), reuseChunks: options.reuseChunks });
    answer.response.destroy();
    throw new NixError('NIX_CACHE_INVALID', `${action('GET', url)}: its content encoding is not one of gzip, br, zstd`);
  }

  async has(url: URL, { signal }: SignalOptions): Promise<boolean> {
    const answer = await this.#request(url, { method: 'HEAD', headers: {}, signal });
    const { statusCode = 0 } = answer.response;
    if (statusCode !== 200 && !MISSING.has(statusCode)) throw await statusError(answer);
    discard(answer);
    return statusCode === 200;
  }

  async put(url: URL, body: UploadContent, { signal }: SignalOptions): Promise<void> {
    const isText = 'text' in body;
    const headers: OutgoingHttpHeaders = {
      'content-type': body.type,
      'content-length': isText ? Buffer.byteLength(body.text) : body.size,
      // A refusal then comes before megabytes were sent for nothing.
      ...(isText ? {} : { expect: '100-continue' }),
    };
    const answer = await this.#request(url, { method: 'PUT', headers, body, signal });
    if (![200, 201, 204].includes(answer.response.statusCode ?? 0)) throw await statusError(answer);
    discard(answer);
  }

  async spoolFolder(): Promise<string> {
    return tmpdir();
  }

  /** The body to its end: where a connection breaks, the rest is asked for, or else all again, without the part that was delivered. */
  async *#wholeBody(url: URL, first: HttpAnswer, options: NarOptions): AsyncGenerator<Uint8Array, void> {
    const { signal } = options;
    const version = versionOf(first.response);
    let { response } = first;
    let delivered = 0;
    let skip = 0;
    let failures = 0;
    let lastFailure = 0;
    for (;;) {
      try {
        for await (const chunk of this.#client.body(response, first.url, options)) {
          const rest = chunk.subarray(skip);
          skip -= chunk.length - rest.length;
          delivered += rest.length;
          if (rest.length > 0) yield rest;
        }
        return;
      } catch (error) {
        if (!isPassing(error)) throw error;
        failures = delivered - lastFailure >= PROGRESS ? 1 : failures + 1;
        lastFailure = delivered;
        if (failures > this.#options.retries) throw error;
      }
      await this.#pause(failures - 1, undefined, signal);
      ({ response, skip } = await this.#goOn(url, version, delivered, signal));
    }
  }

  async #goOn(url: URL, version: Version, delivered: number, signal: AbortSignal | undefined) {
    const headers: OutgoingHttpHeaders =
      version.isResumable && delivered > 0
        ? { range: `bytes=${delivered}-`, ...(version.etag === undefined ? {} : { 'if-range': version.etag }) }
        : {};
    const answer = await this.#request(url, { method: 'GET', headers, signal });
    const { response } = answer;
    const changed = () =>
      new NixError('NIX_CACHE_INVALID', `${action('GET', url)}: the file changed while it was transferred`);
    const now = versionOf(response);
    if (response.statusCode !== 206) {
      if (response.statusCode !== 200) throw await statusError(answer);
      if (!isSame(now.size, version.size) || !isSame(now.etag, version.etag) || now.encoding !== version.encoding) {
        response.destroy();
        throw changed();
      }
      return { response, skip: delivered };
    }
    const [, from, to, size] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers['content-range'] ?? '') ?? [];
    const total = size === undefined || size === '*' ? undefined : Number(size);
    const isWanted = Number(from) === delivered && (total === undefined || Number(to) === total - 1);
    if (isWanted && isSame(total, version.size) && isSame(now.etag, version.etag)) return { response, skip: 0 };
    response.destroy();
    throw changed();
  }

  /** The final answer to a request: redirects are followed, what may pass is tried again. A plain loop, for what to do next depends on the answer. */
  async #request(url: URL, request: HttpRequest): Promise<HttpAnswer> {
    for (let tries = 0; ; tries++) {
      let failure: unknown;
      let wait: number | undefined;
      try {
        const answer = await this.#follow(url, request);
        if (!isBusy(answer.response.statusCode ?? 0)) return answer;
        wait = retryAfter(answer.response);
        failure = await statusError(answer);
      } catch (error) {
        if (!isPassing(error)) throw error;
        failure = error;
      }
      if (tries >= this.#options.retries || (wait ?? 0) > RETRY_AFTER_MAX) throw failure;
      await this.#pause(tries, wait, request.signal);
    }
  }

  async #follow(url: URL, request: HttpRequest): Promise<HttpAnswer> {
    let location = url;
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
      const authorization = await this.#options.authorization(location);
      const headers = { ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
      const answer = await this.#client.send(location, { ...request, headers });
      const { statusCode = 0, headers: answered } = answer.response;
      // After any other redirect a client may turn PUT into GET.
      const mayFollow = request.method !== 'PUT' || statusCode === 307 || statusCode === 308;
      if (statusCode < 300 || statusCode > 399 || answered.location === undefined || !mayFollow) return answer;
      discard(answer);
      location = redirect(answered.location, location, request.method);
    }
    throw new NixError('NIX_CACHE_INVALID', `${action(request.method, url)}: more than ${REDIRECTS_MAX} redirects`);
  }

  /** Half of the time is left to chance, lest all clients of a server that comes back arrive at once. */
  async #pause(tries: number, wait: number | undefined, signal: AbortSignal | undefined): Promise<void> {
    const delay = Math.min(this.#options.retryDelay * 2 ** tries, DELAY_MAX);
    const ms = Math.max(delay * (0.5 + Math.random() / 2), wait ?? 0);
    try {
      await sleep(ms, undefined, { signal });
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error;
    }
  }
}
