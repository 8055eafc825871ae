import type { NatsConnection } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import type { Metric } from './metrics/metric.ts';
import type { NodeOptions } from './node-options.ts';
import { checkOptions } from './node-options.ts';
import { loadIdentity } from './identity.ts';
import { RunningNode } from './running-node.ts';

/** How a node ended: after lame duck mode, or because it was disposed. */
export type NodeEnd = 'lameduck' | 'stopped';

/** A node at work. Disposing it ends its nexlets first; the connection stays open. */
export interface Node extends AsyncDisposable {
  /** Public server key, `N…`. */
  readonly id: string;
  /** Public curve key, `X…`. */
  readonly xkey: string;
  /** The curve key as a pair: opens what is sealed for this node. */
  readonly xkeyPair: KeyPair;
  /** Resolves when nothing of the node runs any more. Never rejects. */
  readonly closed: Promise<NodeEnd>;
  /** Takes no more workloads; ends after `delay` milliseconds. Resolves when the nexlets know. */
  lameduck(delay: number): Promise<void>;
  /** Of the node, its nexlets and their workloads; see {@link formatMetrics}. */
  metrics(): Promise<Metric[]>;
  /** Why no workload should be sent here now; undefined when the node is running and connected. */
  readonly complaint: string | undefined;
  /** Ends the processes of local nexlets at once, for a program that exits without disposing of the node. */
  abandon(): void;
}

/**
 * Starts a node on a connection of the caller's: resolves when its nexlets are healthy and it takes workloads.
 *
 * @throws {NodeError} and what a nexlet's `ready` throws; nothing is left running then
 */
export async function startNode(nc: NatsConnection, options: NodeOptions): Promise<Node> {
  checkOptions(options);
  const identity = await loadIdentity(options.stateDir, options);
  const node = new RunningNode(nc, { ...options, ...identity });
  try {
    await node.start();
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}
