import { createReadStream } from 'node:fs';
import { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { UploadContent } from './cache-transport.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { RecyclingAgent } from './recycling-agent.ts';
import { NixError } from '../nix-error.ts';

/** As many as Nix opens. */
const SOCKETS_MAX = 25;
const IDLE_TIMEOUT = 10_000;
/** Milliseconds to wait for `100 Continue` from servers that do not know it. */
const CONTINUE_TIMEOUT = 1000;
const READ_SIZE = 256 * 1024;

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT';
  readonly headers: OutgoingHttpHeaders;
  readonly body?: UploadContent | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly response: IncomingMessage;
  /** Where it came from. */
  readonly url: URL;
  readonly method: HttpRequest['method'];
  /** Whether it came after the whole request was sent; if not, the connection is of no more use. */
  readonly isRequestSent: boolean;
}

/** Connections that are used again; idle ones are closed after ten seconds and keep no process alive. */
export class HttpClient {
  readonly #options = { keepAlive: true, maxSockets: SOCKETS_MAX, timeout: IDLE_TIMEOUT };
  readonly #agents = { 'http:': new RecyclingAgent(this.#options), 'https:': new HttpsAgent(this.#options) };
  readonly #timeout: number;

  /** @param timeout milliseconds without a sign of life after which a request fails. */
  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  /**
   * One request; the answer, whatever it is, with its body still to be read.
   *
   * @throws {@link NixError} `NIX_CACHE_UNREACHABLE`, or the reason of the signal.
   */
  async send(url: URL, { method, headers, body, signal }: HttpRequest): Promise<HttpAnswer> {
    signal?.throwIfAborted();
    const isSecure = url.protocol === 'https:';
    const request = (isSecure ? httpsRequest : httpRequest)(url, {
      method,
      agent: this.#agents[isSecure ? 'https:' : 'http:'],
      headers: { 'user-agent': 'nex-nix', ...headers },
      ...(signal === undefined ? {} : { signal }),
    });
    const life = new Watchdog(this.#timeout, () => request.destroy(timeoutError(method, url, this.#timeout)));
    // Waiting for a free socket says nothing about the server.
    request.once('socket', () => life.start());
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request.once('response', resolve);
        request.on('error', reject);
        if (body === undefined) request.end();
        else upload(request, body, life).catch((error: unknown) => request.destroy(error as Error));
      });
      return { response, url, method, isRequestSent: request.writableEnded };
    } catch (error) {
      throw asCacheError(method, url, error, signal);
    } finally {
      life.stop();
    }
  }

  /** The body of an answer; only waiting for the server counts, not what the reader does in between. */
  async *body(
    response: IncomingMessage,
    url: URL,
    { signal, reuseChunks = false }: NarOptions,
  ): AsyncGenerator<Buffer, void> {
    const life = new Watchdog(this.#timeout, () => response.destroy(timeoutError('GET', url, this.#timeout)));
    life.start();
    try {
      for await (const chunk of response) {
        life.pause();
        yield chunk as Buffer;
        if (reuseChunks) release(chunk as Buffer<ArrayBuffer>);
        life.start();
      }
    } catch (error) {
      throw asCacheError('GET', url, error, signal);
    } finally {
      life.stop();
    }
  }
}

/** Calls back when nobody says for a while that all is well. */
class Watchdog {
  readonly #timer: NodeJS.Timeout;
  #isArmed = false;

  constructor(timeout: number, onSilence: () => void) {
    this.#timer = setTimeout(() => {
      if (this.#isArmed) onSilence();
    }, timeout);
  }

  start(): void {
    this.#isArmed = true;
    this.#timer.refresh();
  }

  pause(): void {
    this.#isArmed = false;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** Gives the memory of a chunk back at once: V8 would run a full collection for about every ten megabytes of it. */
function release({ buffer, byteLength }: Buffer<ArrayBuffer>): void {
  if (byteLength === buffer.byteLength) buffer.transfer(0);
}

async function upload(request: ClientRequest, body: UploadContent, life: Watchdog): Promise<void> {
  if ('text' in body) {
    request.end(body.text);
    return;
  }
  let isAnswered = false;
  request.once('response', () => (isAnswered = true));
  if ((await permission(request)) === 'refused') return;
  for await (const chunk of createReadStream(body.file, { highWaterMark: READ_SIZE })) {
    // An answer before the end is a refusal.
    if (request.destroyed || isAnswered) return;
    life.start();
    if (!request.write(chunk)) await drained(request);
  }
  life.start();
  request.end();
}

/** What the server makes of `Expect: 100-continue`. */
function permission(request: ClientRequest): Promise<'granted' | 'refused'> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    const settle = (outcome: 'granted' | 'refused') => {
      clearTimeout(timer);
      resolve(outcome);
    };
    request.once('continue', () => settle('granted'));
    request.once('response', () => settle('refused'));
    request.once('close', () => settle('refused'));
    request.once('socket', () => (timer = setTimeout(() => settle('granted'), CONTINUE_TIMEOUT)));
    request.flushHeaders();
  });
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of ['drain', 'response', 'close']) request.off(event, settle);
      resolve();
    };
    for (const event of ['drain', 'response', 'close']) request.on(event, settle);
  });
}

/** How a URL is shown: without password and without a query, which may hold a token. */
export function shownUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** `get "<url>"` or `put "<url>"`, for error messages. */
export function action(method: string, url: URL): string {
  return `Cannot ${method === 'PUT' ? 'put' : 'get'} "${shownUrl(url)}"`;
}

function timeoutError(method: string, url: URL, timeout: number): NixError {
  return new NixError('NIX_CACHE_UNREACHABLE', `${action(method, url)}: nothing came for ${timeout} ms`);
}

function asCacheError(method: string, url: URL, error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof NixError || !(error instanceof Error)) return error;
  const code = 'code' in error ? ` (${String(error.code)})` : '';
  return new NixError(
    'NIX_CACHE_UNREACHABLE',
    `${action(method, url)}: ${error.message || 'the connection failed'}${code}`,
    { hint: `See whether the server is up: curl -I ${url.origin}`, cause: error },
  );
}
