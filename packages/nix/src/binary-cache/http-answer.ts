import type { IncomingMessage } from 'node:http';
import { action, type HttpAnswer, shownUrl } from './http-request.ts';
import { NixError } from '../nix-error.ts';

const DISCARD_MAX = 64 * 1024;
const ERROR_TEXT_MAX = 1000;
const REST_TIMEOUT = 1000;
const UNAUTHORIZED = new Set([401, 407]);
const NEVER_BETTER = new Set([501, 505, 511]);

/** What tells whether a file is still the same. */
export interface Version {
  readonly size: number | undefined;
  /** A strong one. */
  readonly etag: string | undefined;
  readonly encoding: string | undefined;
  readonly isResumable: boolean;
}

export function versionOf({ headers }: IncomingMessage): Version {
  const length = headers['content-length'];
  const encoding = headers['content-encoding'];
  return {
    size: length === undefined ? undefined : Number(length),
    etag: /^"[^"]*"$/.exec(headers.etag ?? '')?.[0],
    encoding,
    isResumable: headers['accept-ranges'] === 'bytes' && encoding === undefined,
  };
}

export function isSame<T>(a: T | undefined, b: T | undefined): boolean {
  return a === undefined || b === undefined || a === b;
}

export function isBusy(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && !NEVER_BETTER.has(status));
}

export function isPassing(error: unknown): boolean {
  return error instanceof NixError && error.code === 'NIX_CACHE_UNREACHABLE';
}

/** Milliseconds that the server asks to be left alone: it says seconds or a date. */
export function retryAfter({ headers }: IncomingMessage): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

export function redirect(location: string, from: URL, method: string): URL {
  const url = URL.parse(location, from.href);
  const why =
    url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')
      ? 'to something that is no URL of HTTP'
      : from.protocol === 'https:' && url.protocol === 'http:'
        ? `from https to "${shownUrl(url)}", which is not encrypted`
        : undefined;
  if (url === null || why !== undefined)
    throw new NixError('NIX_CACHE_INVALID', `${action(method, from)}: it redirects ${why}`);
  url.username = '';
  url.password = '';
  return url;
}

/** Lets a small rest pass so that the connection can be used again; a large one is not worth waiting for. */
export function discard({ response, isRequestSent }: HttpAnswer): void {
  let left = DISCARD_MAX;
  const timer = setTimeout(() => response.destroy(), REST_TIMEOUT);
  response.on('close', () => clearTimeout(timer));
  response.on('error', () => undefined);
  response.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) response.destroy();
  });
  if (!isRequestSent) response.destroy();
}

function isBodyless({ method, response }: HttpAnswer): boolean {
  return method === 'HEAD' || response.statusCode === 204;
}

export async function statusError(answer: HttpAnswer): Promise<NixError> {
  const { method, url, response } = answer;
  const { statusCode: status = 0 } = response;
  const said = await errorText(answer);
  const message = `${action(method, url)}: the server answers ${status}${said === '' ? '' : `: ${said}`}`;
  if (UNAUTHORIZED.has(status) || (method === 'PUT' && status === 403)) {
    return new NixError('NIX_CACHE_REFUSED', message, {
      hint: 'Give a user name and password in the URL of the cache or in a netrc file, or a bearer token',
    });
  }
  return new NixError(isBusy(status) ? 'NIX_CACHE_UNREACHABLE' : 'NIX_CACHE_INVALID', message);
}

/** The beginning of what a server says of an error, on one line and printable; nothing when it is no plain text. */
async function errorText(answer: HttpAnswer): Promise<string> {
  const { response } = answer;
  const type = response.headers['content-type'] ?? 'text/plain';
  if (isBodyless(answer) || !type.startsWith('text/plain')) {
    discard(answer);
    return '';
  }
  const chunks: Buffer[] = [];
  let size = 0;
  // The status says it all if the text does not come.
  const timer = setTimeout(() => response.destroy(), REST_TIMEOUT);
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > ERROR_TEXT_MAX) break;
    }
  } catch {
    // What came of the text is shown; why it was cut matters less than the status.
  } finally {
    clearTimeout(timer);
  }
  if (!answer.isRequestSent) response.destroy();
  const text = Buffer.concat(chunks).toString().slice(0, ERROR_TEXT_MAX);
  return text.replace(/[^\p{L}\p{N}\p{P}\p{S}]+/gu, ' ').trim();
}
