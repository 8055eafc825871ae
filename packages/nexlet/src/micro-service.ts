import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/nats-core';
import { type Service, Svcm } from '@nats-io/services';
import type { Logger } from './logger.ts';

/** How long the server may take to end the subscriptions, in milliseconds. */
const STOP_TIMEOUT = 500;

/** What an endpoint answers. */
export interface Reply {
  readonly data: Uint8Array | string;
  readonly headers?: MsgHdrs;
}

/** Answers one request; undefined is silence. `signal` is aborted when the service ends. */
export type EndpointHandler = (msg: Msg, signal: AbortSignal) => Promise<Reply | undefined>;

/** Where an endpoint of another queue group than the service's listens. */
export interface EndpointSubject {
  readonly subject: string;
  readonly queue: string;
}

export interface MicroServiceOptions {
  /** `[A-Za-z0-9_-]+`. */
  name: string;
  /** Semantic version. */
  version: string;
  description?: string;
  /** Queue group of every endpoint. */
  queue: string;
  /** The reply to a request whose handler throws. */
  failure: (error: unknown, endpoint: string) => Reply;
  logger: Logger;
}

/**
 * A NATS micro service with concurrent asynchronous handlers: a slow request holds up no other one, a handler that
 * throws is answered, and nothing is under way any more after the service was disposed.
 */
export class MicroService implements AsyncDisposable {
  readonly #service: Service;
  readonly #options: MicroServiceOptions;
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #disposed: Promise<void> | undefined;

  private constructor(service: Service, options: MicroServiceOptions) {
    this.#service = service;
    this.#options = options;
  }

  static async open(nc: NatsConnection, options: MicroServiceOptions): Promise<MicroService> {
    const { name, version, description = '', queue } = options;
    const service = await new Svcm(nc).add({ name, version, description, queue });
    return new MicroService(service, options);
  }

  /** Subscribes an endpoint. `name` is what the service's INFO shows; `subject` may have wildcards. */
  endpoint(name: string, subject: string | EndpointSubject, handler: EndpointHandler): void {
    this.#service.addEndpoint(name, {
      ...(typeof subject === 'string' ? { subject } : subject),
      // The library neither awaits handlers nor catches their rejections.
      handler: (error, msg) => {
        if (error === null) this.#accept(name, handler, msg);
      },
    });
  }

  #accept(name: string, handler: EndpointHandler, msg: Msg): void {
    const task = this.#answer(name, handler, msg);
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
  }

  async #answer(name: string, handler: EndpointHandler, msg: Msg): Promise<void> {
    const { failure, logger } = this.#options;
    try {
      respond(msg, await handler(msg, this.#abort.signal));
    } catch (error) {
      try {
        respond(msg, failure(error, name));
      } catch (unsent) {
        logger.warn({ err: unsent, failure: error, endpoint: name }, 'a reply could not be sent');
      }
    }
  }

  /** Whether it serves nothing any more. What the server denies is known after a flush of the connection. */
  get hasEnded(): boolean {
    return this.#service.isStopped;
  }

  /**
   * Resolves when the service has ended: with the reason when it was not disposed, e.g. that the server denies it one of
   * its subjects; it then serves nothing any more.
   */
  async ended(): Promise<Error | undefined> {
    const reason = await this.#service.stopped;
    if (this.#disposed !== undefined) return undefined;
    return reason ?? new Error('the service has stopped');
  }

  /** Takes no more requests, aborts those that wait for others, and waits for all. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    // Without a server nobody confirms that the subscriptions are gone.
    await Promise.race([this.#service.stop(), delay(STOP_TIMEOUT, undefined, { ref: false })]);
    this.#abort.abort(new Error('the service is ending'));
    await Promise.all(this.#running);
  }
}

function respond(msg: Msg, reply: Reply | undefined): void {
  if (reply === undefined) return;
  msg.respond(reply.data, reply.headers === undefined ? {} : { headers: reply.headers });
}
