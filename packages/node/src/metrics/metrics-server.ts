import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from '@nex-nix/nexlet';
import { NodeError } from '../node-error.ts';
import { formatMetrics, type Metric, METRICS_TYPE } from './metric.ts';

/** Connections at once; scrapers need one each. */
const MAX_CONNECTIONS = 32;
/** How long a client may take to send its request, in milliseconds. */
const REQUEST_TIMEOUT = 10_000;

export interface MetricsServerOptions {
  host: string;
  /** 0: a free one. */
  port: number;
  /** Called for each scrape, one at a time: scrapes that come meanwhile share its result. */
  collect: () => Promise<readonly Metric[]>;
  /** Why the node is not ready; undefined when it is. Answers `/healthz`. */
  complaint: () => string | undefined;
  logger: Logger;
}

/** Serves `/metrics` in Prometheus' text format, and `/healthz`: 200 when all is well, else 503 and why. */
export class MetricsServer implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server, options: MetricsServerOptions) {
    const { address, port, family } = server.address() as AddressInfo;
    this.url = `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    this.#server = server;
    server.on('error', (error) => options.logger.error({ err: error }, 'the server of the metrics has failed'));
  }

  /** @throws {NodeError} NODE_METRICS_FAILED when it cannot listen there */
  static async start(options: MetricsServerOptions): Promise<MetricsServer> {
    const { host, port } = options;
    const server = createServer(
      { requestTimeout: REQUEST_TIMEOUT, headersTimeout: REQUEST_TIMEOUT },
      answerWith(options),
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.listen({ host, port });
    try {
      await once(server, 'listening');
    } catch (cause) {
      throw cannotListen(host, port, cause as NodeJS.ErrnoException);
    }
    return new MetricsServer(server, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

function answerWith({ collect, complaint, logger }: MetricsServerOptions) {
  let collecting: Promise<string> | undefined;
  const metrics = (): Promise<string> => {
    collecting ??= collect()
      .then(formatMetrics)
      .finally(() => (collecting = undefined));
    return collecting;
  };
  return (request: IncomingMessage, response: ServerResponse): void => {
    const path = request.url?.split('?', 1)[0];
    if (path !== '/metrics' && path !== '/healthz') return answer(response, 404, 'there are /metrics and /healthz\n');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return answer(response, 405, 'only GET and HEAD are answered\n');
    }
    if (path === '/healthz') {
      const why = complaint();
      return answer(response, why === undefined ? 200 : 503, `${why ?? 'ok'}\n`);
    }
    metrics().then(
      (text) => answer(response, 200, text, METRICS_TYPE),
      (error: unknown) => {
        logger.error({ err: error }, 'metrics cannot be collected');
        answer(response, 500, 'metrics cannot be collected; the log of the node says why\n');
      },
    );
  };
}

// oxlint-disable-next-line max-params -- the parts of a response
function answer(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  const body = Buffer.from(text);
  response.writeHead(status, { 'content-type': type, 'content-length': body.length, 'cache-control': 'no-store' });
  // Of a HEAD request, the body is left out by the server itself.
  response.end(body);
}

const REASONS: Readonly<Record<string, readonly [why: string, hint: string]>> = {
  EADDRINUSE: ['address in use', 'Give another port'],
  EADDRNOTAVAIL: ['this machine does not have that address', 'Give an address of this machine'],
  EACCES: ['not permitted', 'Give a port above 1023'],
  ENOTFOUND: ['there is no such host', 'Give an address of this machine'],
};

function cannotListen(host: string, port: number, cause: NodeJS.ErrnoException): NodeError {
  const [why, hint] = REASONS[cause.code ?? ''] ?? [cause.message, undefined];
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new NodeError('NODE_METRICS_FAILED', `Cannot serve metrics on ${where}: ${why}`, { cause, hint });
}
