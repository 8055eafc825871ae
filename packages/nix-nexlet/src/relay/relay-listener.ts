import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Logger } from '@nex-nix/nexlet';

/** A workload has one connection, or a few; one that has more than that is after something else. */
const MAX_PER_SOURCE = 64;
const MAX_CONNECTIONS = 4096;
const CONNECT_TIMEOUT_MS = 10_000;

/** Where connections go. */
export interface RelayTarget {
  host: string;
  port: number;
}

/** Listens at one address and forwards each connection to one server, byte by byte. Knows nothing of what is said. */
export class RelayListener implements AsyncDisposable {
  readonly #target: RelayTarget;
  readonly #logger: Logger;
  readonly #server: Server;
  readonly #connections = new Map<string, Set<Socket>>();

  private constructor(target: RelayTarget, logger: Logger) {
    this.#target = target;
    this.#logger = logger;
    // A client that has said all it wants may still be answered.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
      this.#take(socket),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Rejects with what `listen` says: EADDRINUSE, EADDRNOTAVAIL. */
  static async open(target: RelayTarget, at: { host: string; port: number }, logger: Logger): Promise<RelayListener> {
    const listener = new RelayListener(target, logger);
    listener.#server.listen({ ...at, exclusive: true });
    await once(listener.#server, 'listening');
    listener.#server.on('error', (err) => logger.error({ err }, 'the NATS relay cannot take a connection'));
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const sockets of this.#connections.values()) for (const socket of sockets) socket.destroy();
    await closed;
  }

  #take(client: Socket): void {
    const { remoteAddress: source } = client;
    // Gone already.
    if (source === undefined) return void client.destroy();
    const sockets = this.#connections.get(source) ?? new Set();
    if (sockets.size >= MAX_PER_SOURCE) {
      client.on('error', () => undefined).destroy();
      return;
    }
    this.#connections.set(source, sockets.add(client));
    if (sockets.size === MAX_PER_SOURCE) {
      this.#logger.warn({ source }, `a workload has ${MAX_PER_SOURCE} connections to NATS; more are refused`);
    }
    client.once('close', () => {
      sockets.delete(client);
      if (sockets.size === 0) this.#connections.delete(source);
    });
    this.#join(client, connect({ ...this.#target, allowHalfOpen: true, noDelay: true, keepAlive: true }));
  }

  /** Each end reads no faster than the other one takes it, and ends when the other has. */
  #join(client: Socket, server: Socket): void {
    server.setTimeout(CONNECT_TIMEOUT_MS, () => server.destroy());
    server.once('connect', () => server.setTimeout(0));
    server.on('error', (err) =>
      this.#logger.warn({ err, ...this.#target }, 'the NATS relay lost a connection to the server'),
    );
    // A workload that was killed resets its connections; nothing is to be said about that.
    client.on('error', () => undefined);
    client.pipe(server).pipe(client);
    server.once('close', (failed) => (failed || !server.readableEnded ? client.destroy() : client.destroySoon()));
    client.once('close', (failed) => (failed || !client.readableEnded ? server.destroy() : server.destroySoon()));
  }
}
