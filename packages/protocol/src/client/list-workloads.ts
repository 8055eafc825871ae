import type { NatsConnection } from '@nats-io/nats-core';
import { ListWorkloadsRequest, WorkloadSummaries, type WorkloadSummary } from '../messages/workload-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import { anySignal } from '../wire/signals.ts';
import { controlSubjects } from '../wire/subjects.ts';
import { askAll } from './ask.ts';
import type { AskOptions, NexClient } from './nex-client.ts';

export interface ListWorkloadsOptions extends AskOptions {
  /** Ids or names; empty: all. */
  filter?: readonly string[] | undefined;
  /** Default: the client's. */
  namespace?: string | undefined;
}

export interface ListedWorkloads {
  readonly workloads: WorkloadSummary[];
  /** What some nodes said instead. That a Go node has no nexlets is no error. */
  readonly errors: ProtocolError[];
  /** How many nodes answered, with a list or an error. */
  readonly nodes: number;
  /** What each node lists. */
  readonly perNode: readonly WorkloadSummary[][];
}

/** What Go nodes answer that have no nexlet to ask, instead of an empty list. */
const NOBODY_TO_ASK = 'failed to publish query workloads request';

/** A ping counts the nodes, so that the list of a slow one (2 s on a Go node with a dead nexlet) is waited for. */
export async function listWorkloads(
  nc: NatsConnection,
  client: NexClient,
  { filter = [], namespace = client.namespace, timeout, stall, expected, signal }: ListWorkloadsOptions,
): Promise<ListedWorkloads> {
  const ping = new AbortController();
  const counted = expected === undefined ? countNodes(client, anySignal(ping.signal, signal)) : undefined;
  try {
    const subject = controlSubjects.listWorkloads(namespace);
    const payload = ListWorkloadsRequest.encode({ filter: [...filter], namespace });
    const { items, errors } = await askAll(
      nc,
      { subject, payload, type: WorkloadSummaries },
      {
        timeout: timeout ?? client.timeout,
        stall: stall ?? client.stall,
        expected: expected ?? counted?.then((nodes) => nodes?.count),
        signal,
      },
    );
    ping.abort();
    return {
      workloads: items.flat(),
      errors: withoutIdle(errors, (await counted)?.idle ?? 0),
      nodes: items.length + errors.length,
      perNode: items,
    };
  } finally {
    ping.abort();
    await counted;
  }
}

/** Without the errors of so many nodes that have no nexlets, thus no workloads. */
function withoutIdle(errors: readonly ProtocolError[], idle: number): ProtocolError[] {
  let left = idle;
  return errors.filter((error) => error.message !== NOBODY_TO_ASK || left-- <= 0);
}

/** How many nodes there are, and how many of them have no nexlet; undefined when that cannot be asked, as in a namespace's own account. */
async function countNodes(
  client: NexClient,
  signal: AbortSignal,
): Promise<{ count: number; idle: number } | undefined> {
  try {
    const { nodes, errors } = await client.pingNodes({ signal });
    const count = nodes.length + errors.length;
    return count === 0 ? undefined : { count, idle: nodes.filter((node) => node.agent_count === 0).length };
  } catch (error) {
    if (signal.aborted || error instanceof ProtocolError) return undefined;
    throw error;
  }
}
