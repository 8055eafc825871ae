import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import { type AgentSummary, createXKey, xkeyOfSeed } from '@nex-nix/protocol';
import { type Feeds, feedsThrough } from './feeds.ts';
import { type Logger, silentLogger } from './logger.ts';
import { checkDefinition, type NexletDefinition } from './nexlet-definition.ts';
import { Outbox } from './outbox.ts';
import { WorkloadCount } from './workload-count.ts';

/** How long the end of a nexlet waits for the server to take its last messages, in milliseconds. */
const LAST_WORDS = 500;

/** What every way to run a nexlet has in common. */
export interface NexletOptions {
  logger?: Logger;
  /** Seed of its curve key, `SX…`: what is sealed for the nexlet can be opened by its next process. Default: a new key. */
  xkeySeed?: string;
  /** Ends the start; a running nexlet ends by being disposed. */
  signal?: AbortSignal;
}

/** A definition at work, whatever node it is at: its key, its feeds and its state outlive connections and nodes. */
export class Nexlet {
  readonly definition: NexletDefinition;
  readonly xkey: KeyPair;
  readonly feeds: Feeds;
  readonly logger: Logger;
  state: 'starting' | 'running' | 'lameduck' | 'stopping' = 'starting';
  readonly #startTime = new Date().toISOString();
  readonly #outbox: Outbox;
  readonly #count: WorkloadCount;
  #agentId = '';
  #ready: Promise<void> | undefined;
  #isBroken = false;

  /** @throws {NexletError} NEXLET_DEFINITION_INVALID; {ProtocolError} NEX_SEAL_INVALID for `xkeySeed` */
  constructor(definition: NexletDefinition, { logger = silentLogger, xkeySeed = definition.xkeySeed }: NexletOptions) {
    checkDefinition(definition);
    this.definition = definition;
    this.xkey = xkeySeed === undefined ? createXKey() : xkeyOfSeed(xkeySeed);
    this.logger = logger.child({ component: 'nexlet', nexlet: definition.name });
    this.#outbox = new Outbox({ logger: this.logger });
    this.feeds = feedsThrough(this.#outbox, () => this.#agentId);
    this.#count = new WorkloadCount(definition, this.logger);
  }

  /** Publishes over this connection from now on; the first time, gets the definition ready. */
  async connected(nc: NatsConnection, agentId: string): Promise<void> {
    this.#agentId = agentId;
    this.#outbox.attach(nc);
    this.#ready ??= this.definition.ready?.(this.feeds, this.xkey) ?? Promise.resolve();
    try {
      await this.#ready;
    } catch (error) {
      this.#isBroken = true;
      throw error;
    }
  }

  /** Its node is gone. That it was a lame duck was about that node, unless the definition was told too. */
  leftNode(): void {
    if (this.state === 'lameduck' && this.definition.lameduck === undefined) this.state = 'starting';
  }

  /** Its definition could not be made ready: no node will do. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  async summary(): Promise<AgentSummary> {
    const { name, type, version, lifecycles } = this.definition;
    return {
      name,
      type,
      version,
      start_time: this.#startTime,
      state: this.state,
      supported_lifecycles: lifecycles.join(','),
      workload_count: await this.#count.get(),
    };
  }

  /** Closes the definition, where it was ever made ready, and sees its last words out as long as there is a server. */
  async close(): Promise<void> {
    const enough = new AbortController();
    try {
      if (this.#ready !== undefined) await this.definition.close?.();
      // What is not with the server by then is lost, which whoever waits for it is told.
      const flushed = this.feeds.flushed().catch(() => undefined);
      await Promise.race([flushed, delay(LAST_WORDS, undefined, { signal: enough.signal }).catch(() => undefined)]);
    } finally {
      enough.abort();
      this.#outbox.end();
    }
  }
}
