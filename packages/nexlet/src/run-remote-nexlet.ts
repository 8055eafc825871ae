import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import { natsConnectionData, type NatsConnectionData, ProtocolError } from '@nex-nix/protocol';
import { Attachment } from './attachment.ts';
import { connectWith } from './connect-with.ts';
import { Nexlet, type NexletOptions } from './nexlet.ts';
import type { NexletDefinition } from './nexlet-definition.ts';
import { NexletError } from './nexlet-error.ts';
import type { NodeWatchTimes } from './node-watch.ts';
import type { RegistrationSource } from './registrar.ts';
import { askForPlace } from './remote-registration.ts';
import { endNexlet, type RunningNexlet } from './run-nexlet.ts';

export interface RunRemoteNexletOptions extends NexletOptions {
  /** The nexlet's own access to NATS, to ask for a node with. A connection that is made by a function is closed here. */
  connection: Partial<NatsConnectionData> | (() => Promise<NatsConnection>);
  /** @default nexus */
  nexus?: string;
  watch?: NodeWatchTimes;
  /** Waits between two attempts to find a node: the first one, doubled each time up to the longest, in milliseconds. */
  retry?: { first?: number; longest?: number };
}

/**
 * Runs a nexlet that no node has started, at any node of a nexus that takes remote ones. It looks for one as long as it
 * takes, and for the next one when its node is gone; its workloads go on meanwhile, and are listed there.
 *
 * @throws {NexletError} NEXLET_DEFINITION_INVALID; NEXLET_NATS_REFUSED, NEXLET_NATS_UNREACHABLE of the first attempt;
 * why there was no node, when `signal` was aborted; what `definition.ready` throws
 * @throws {ProtocolError} NEX_PERMISSION when the connection may not ask for a node
 */
export async function runRemoteNexlet(
  definition: NexletDefinition,
  options: RunRemoteNexletOptions,
): Promise<RunningNexlet> {
  const remote = new RemoteNexlet(new Nexlet(definition, options), options);
  try {
    await remote.start(options.signal);
  } catch (error) {
    await remote[Symbol.asyncDispose]();
    throw error;
  }
  return remote;
}

class RemoteNexlet implements RunningNexlet {
  readonly xkey: string;
  readonly closed: Promise<NexletError | undefined>;
  readonly #nexlet: Nexlet;
  readonly #options: RunRemoteNexletOptions;
  readonly #abort = new AbortController();
  readonly #ended = Promise.withResolvers<NexletError | undefined>();
  #failure: NexletError | undefined;
  #attachment: Attachment | undefined;
  #moving: Promise<void> | undefined;
  #disposed: Promise<void> | undefined;

  constructor(nexlet: Nexlet, options: RunRemoteNexletOptions) {
    this.xkey = nexlet.xkey.getPublicKey();
    this.closed = this.#ended.promise;
    this.#nexlet = nexlet;
    this.#options = options;
  }

  get agentId(): string {
    return this.#attachment?.agentId ?? '';
  }

  get nodeId(): string {
    return this.#attachment?.nodeId ?? '';
  }

  async start(signal: AbortSignal | undefined): Promise<void> {
    // Access that is refused at first is a mistake to tell of; later it is one more thing that will pass.
    const nc = await this.#connect(signal);
    await nc.close();
    this.#attachment = await this.#attach(signal === undefined ? this.#abort.signal : signal);
    this.#moving = this.#move();
  }

  /** From node to node, until disposed. */
  async #move(): Promise<void> {
    const { signal } = this.#abort;
    const { logger } = this.#nexlet;
    const aborted = new Promise<undefined>((resolve) => {
      signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    try {
      while (!signal.aborted) {
        const reason = await Promise.race([this.#attachment?.lost, aborted]);
        if (reason === undefined) return;
        logger.warn({ err: reason }, reason.message);
        await this.#attachment?.[Symbol.asyncDispose]();
        this.#nexlet.leftNode();
        this.#attachment = await this.#attach(signal);
        logger.info({ nodeId: this.nodeId, agentId: this.agentId }, 'nexlet is at another node');
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#failure = goneFor(this.#nexlet.definition.name, error);
      logger.error({ err: error }, this.#failure.message);
      void this.#endAfterFailure();
    }
  }

  async #endAfterFailure(): Promise<void> {
    try {
      await this[Symbol.asyncDispose]();
    } catch (error) {
      this.#nexlet.logger.error({ err: error }, 'the nexlet did not end well');
    }
  }

  async #attach(signal: AbortSignal): Promise<Attachment> {
    const { first = 500, longest = 10_000 } = this.#options.retry ?? {};
    let failure: unknown;
    for (let wait = first; ; wait = Math.min(longest, wait * 2)) {
      try {
        return await this.#attachOnce(signal);
      } catch (error) {
        // Why there was no node says more than that somebody has had enough of waiting.
        if (signal.aborted) throw failure ?? error;
        if (this.#nexlet.isBroken || (this.#attachment === undefined && isDenied(error))) throw error;
        failure = error;
      }
      this.#nexlet.logger.warn({ err: failure, retryInMs: Math.round(wait) }, 'no node takes the nexlet yet');
      await delay(wait * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw failure;
    }
  }

  async #attachOnce(signal: AbortSignal): Promise<Attachment> {
    const { nexus = 'nexus', watch = {}, connection } = this.#options;
    const nc = await this.#connect(signal);
    let place;
    try {
      place = await askForPlace(nc, nexus, signal);
    } finally {
      await nc.close();
    }
    const own: RegistrationSource =
      typeof connection === 'function' ? (given) => this.#connect(given) : natsConnectionData(connection);
    const registration = this.#registration(place.registration) ?? own;
    const { nodeId, agentId } = place;
    return Attachment.open(this.#nexlet, { nodeId, agentId, nexus, registration, watch, signal });
  }

  /** Nodes that were not told their servers name none: then it is the servers that this nexlet knows. */
  #registration(given: NatsConnectionData | undefined): NatsConnectionData | undefined {
    const { connection } = this.#options;
    if (given === undefined || given.nats_servers.length > 0 || typeof connection === 'function') return given;
    return { ...given, nats_servers: connection.nats_servers ?? [] };
  }

  async #connect(signal: AbortSignal | undefined): Promise<NatsConnection> {
    const { connection } = this.#options;
    return typeof connection === 'function' ? connection() : connectWith(natsConnectionData(connection), { signal });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#abort.abort();
    await this.#moving;
    try {
      await endNexlet(this.#nexlet, this.#attachment);
    } finally {
      this.#ended.resolve(this.#failure);
    }
  }
}

/** Access to NATS that does not allow to ask for a node: a mistake, as long as it never did. */
function isDenied(error: unknown): boolean {
  return error instanceof ProtocolError && error.code === 'NEX_PERMISSION';
}

function goneFor(name: string, cause: unknown): NexletError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NexletError('NEXLET_NODE_GONE', `Nexlet "${name}" is at no node any more: ${why}`, { cause });
}
