import type { NatsConnection } from '@nats-io/nats-core';
import { createFeeds } from '@nex-nix/nexlet';
import { controlSubjects, NodeHeartbeat, type Tags } from '@nex-nix/protocol';

/** Publishes what happens to a node. Event bodies as in Nex 0.4 (`models/events.go`). */
export class NodeFeed {
  readonly #nc: NatsConnection;
  readonly #id: string;

  constructor(nc: NatsConnection, id: string) {
    this.#nc = nc;
    this.#id = id;
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

  heartbeat(agents: readonly { id: string; type: string }[]): void {
    if (this.#nc.isClosed()) return;
    const registrations = agents.map(({ id, type }) => `${id} [${type}]`).join(', ');
    this.#nc.publish(controlSubjects.heartbeat(this.#id), NodeHeartbeat.encode({ registrations }));
  }

  #event(name: string, body: unknown): void {
    createFeeds(this.#nc).event(this.#id, name, body);
  }
}
