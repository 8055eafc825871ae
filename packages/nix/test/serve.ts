import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  /** Paths asked for, in order. */
  readonly requests: string[];
  /** The same with methods: `GET /nix-cache-info`. */
  readonly log: string[];
}

type Handler = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface ServeOptions {
  /** Answers `Expect: 100-continue`; without it, every such request may go on. */
  onExpect?: Handler;
}

/** A plain file server on loopback that takes PUT too; `handler` comes first and says whether it took the request. */
export async function serve(
  folder: string,
  handler: Handler = () => false,
  { onExpect }: ServeOptions = {},
): Promise<TestServer> {
  const requests: string[] = [];
  const log: string[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    requests.push(pathname);
    log.push(`${request.method} ${pathname}`);
    if (handler(request, response)) return;
    const file = join(folder, pathname);
    if (request.method === 'PUT') {
      void store(request, file).then(() => response.writeHead(201).end());
      return;
    }
    createReadStream(file)
      .on('error', () => response.writeHead(404).end())
      .once('open', function (this: NodeJS.ReadableStream) {
        this.pipe(response.writeHead(200));
      });
  };
  const server = createServer(answer);
  server.on('checkContinue', (request, response) => {
    if (onExpect?.(request, response) === true) return;
    response.writeContinue();
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    log,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function store(request: IncomingMessage, file: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await pipeline(request, createWriteStream(file));
}
