import { errors, type NatsConnection, type QueuedIterator, type Status } from '@nats-io/nats-core';
import type { Logger } from '@nex-nix/nexlet';

/** Logs what happens to the node's connection; keeps whether it is there, and which subscription the server denied first. */
export class ConnectionWatch implements AsyncDisposable {
  readonly #statuses: QueuedIterator<Status>;
  readonly #logger: Logger;
  readonly #watching: Promise<void>;
  #denied: string | undefined;
  #connected = true;

  constructor(nc: NatsConnection, logger: Logger) {
    // status() is declared as an AsyncIterable only, but what it returns is a QueuedIterator, which can be stopped.
    this.#statuses = nc.status() as QueuedIterator<Status>;
    this.#logger = logger;
    this.#watching = this.#watch();
  }

  /** Subject of a subscription that the server denied; undefined when there was none. */
  get deniedSubject(): string | undefined {
    return this.#denied;
  }

  /** Whether there is a server at the other end, as far as is known. */
  get connected(): boolean {
    return this.#connected;
  }

  async #watch(): Promise<void> {
    for await (const status of this.#statuses) {
      if (status.type === 'disconnect') this.#connected = false;
      if (status.type === 'reconnect') this.#connected = true;
      if (status.type === 'error') this.#failed(status.error);
      else if (status.type === 'disconnect') this.#logger.warn({ server: status.server }, 'NATS connection lost');
      else if (status.type === 'reconnect') this.#logger.info({ server: status.server }, 'NATS connection is back');
    }
  }

  #failed(error: Error): void {
    this.#logger.warn({ err: error }, 'NATS server reports an error');
    if (error instanceof errors.PermissionViolationError && error.operation === 'subscription') {
      this.#denied ??= error.subject;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#statuses.stop();
    await this.#watching;
  }
}
