import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  /** Paths asked for, in order. */
  readonly requests: string[];
}

type Handler = (request: IncomingMessage, response: ServerResponse) => boolean;

/** A plain file server on loopback; `handler` comes first and says whether it took the request. */
export async function serve(folder: string, handler: Handler = () => false): Promise<TestServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    requests.push(pathname);
    if (handler(request, response)) return;
    createReadStream(join(folder, pathname))
      .on('error', () => response.writeHead(404).end())
      .once('open', function (this: NodeJS.ReadableStream) {
        this.pipe(response.writeHead(200));
      });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
