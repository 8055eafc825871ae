import { sendBody } from './body.ts';
import { type ByteRange, parseRange } from './byte-range.ts';
import type { Exchange } from './exchange.ts';
import { measuredContent, narContent, type NarContent, type NarReader } from './nar-content.ts';
import type { KnownNar } from './nar-index.ts';
import { Refusal } from './refusal.ts';

const TYPE = 'application/x-nix-nar';

/**
 * Sends the file of a NAR, or the part of it that was asked for. The status is sent when the first bytes are there; what
 * fails later is thrown, and the client must not take what it has for the whole.
 */
export async function sendNar(
  { request, response, signal }: Exchange,
  { reader, nar, idleTimeout }: { reader: NarReader; nar: KnownNar; idleTimeout: number },
): Promise<void> {
  const isHead = request.method === 'HEAD';
  const etag = `"${nar.manifest.narHash.slice('sha256:'.length)}.${nar.compression}"`;
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, { etag }).end();
    return;
  }
  const content = isHead ? narContent(reader, nar) : await measuredContent(reader, nar, signal);
  const { length } = content;
  const range = isHead ? undefined : rangeOf(request.headers, { etag, content });
  const headers = {
    'content-type': TYPE,
    etag,
    ...(length === undefined
      ? {}
      : { 'accept-ranges': 'bytes', 'content-length': range === undefined ? length : range.end - range.start }),
    ...(range === undefined ? {} : { 'content-range': `bytes ${range.start}-${range.end - 1}/${length}` }),
  };
  if (isHead) {
    response.writeHead(200, headers).end();
    return;
  }
  if (length === undefined && request.httpVersion === '1.0') {
    throw new Refusal(505, 'Cannot send a NAR of unknown length by HTTP/1.0: its end could not be told from a failure');
  }
  const bytes = await primed(content.read(range, signal));
  response.writeHead(range === undefined ? 200 : 206, headers);
  await sendBody(response, bytes, { idleTimeout, signal });
}

function rangeOf(
  headers: { readonly range?: string | undefined; readonly 'if-range'?: string | undefined },
  { etag, content: { length } }: { etag: string; content: NarContent },
): ByteRange | undefined {
  const condition = headers['if-range'];
  if (length === undefined || (condition !== undefined && condition !== etag)) return undefined;
  const range = parseRange(headers.range, length);
  if (range !== 'unsatisfiable') return range;
  throw new Refusal(416, `Cannot send that range: the file has ${length} bytes`, {
    headers: { 'content-range': `bytes */${length}` },
  });
}

/** The same, once the first of it is there. */
async function primed(source: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const iterator = source[Symbol.asyncIterator]();
  const first = await iterator.next();
  return (async function* () {
    try {
      for (let next = first; next.done !== true; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  })();
}
