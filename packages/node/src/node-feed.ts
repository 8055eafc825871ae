import type { NatsConnection } from '@nats-io/nats-core';
import type { Logger } from '@nex-nix/nexlet';
import { controlSubjects, feedSubjects, NodeHeartbeat, type Tags } from '@nex-nix/protocol';

/** Where a node tells what happens to it: on its feed, in its log, nowhere. */
export type EventTarget = 'nats' | 'logs' | 'none';

export interface NodeFeedOptions {
  /** Of the node. */
  id: string;
  events: EventTarget;
  logger: Logger;
}

/** Tells what happens to a node and its nexlets. Event bodies as in Nex 0.4 (`models/events.go`), times in RFC 3339. */
export class NodeFeed {
  readonly #nc: NatsConnection;
  readonly #id: string;
  readonly #target: EventTarget;
  readonly #logger: Logger;

  constructor(nc: NatsConnection, { id, events, logger }: NodeFeedOptions) {
    this.#nc = nc;
    this.#id = id;
    this.#target = events;
    this.#logger = logger;
  }

  started(node: { name: string; nexus: string; tags: Tags }): void {
    const { name, nexus, tags } = node;
    this.#event('NODESTARTED', { id: this.#id, name, nexus, tags, type: 'io.synadia.nex.event.nexnode_started' });
  }

  lameduck(time: Date): void {
    this.#event('NODELAMEDUCKSET', { id: this.#id, time: time.toISOString() });
  }

  stopped(): void {
    this.#event('NODESTOPPED', { id: this.#id });
  }

  agentStarted({ id, name, type }: { id: string; name: string; type: string }): void {
    this.#event('AGENTSTARTED', { id, name, register_type: type });
  }

  agentStopped({ id, name, reason }: { id: string; name: string; reason: string }): void {
    this.#event('AGENTSTOPPED', { id, name, reason, timestamp: new Date().toISOString() });
  }

  agentLameduck(success: boolean): void {
    this.#event('AGENTLAMEDUCKSET', { success });
  }

  heartbeat(agents: readonly { id: string; type: string }[]): void {
    if (this.#nc.isClosed()) return;
    const registrations = agents.map(({ id, type }) => `${id} [${type}]`).join(', ');
    this.#nc.publish(controlSubjects.heartbeat(this.#id), NodeHeartbeat.encode({ registrations }));
  }

  #event(name: string, body: object): void {
    if (this.#target === 'logs') this.#logger.info({ event: name, ...body }, 'event emitted');
    if (this.#target !== 'nats' || this.#nc.isClosed()) return;
    this.#nc.publish(feedSubjects.events(this.#id, name), JSON.stringify(body));
  }
}
