import type { NexClient, NodePing, WorkloadSummary } from '@nex-nix/protocol';

/** What the nodes said when they were asked. */
export interface Observation {
  /** When the question was sent, by the monotonic clock, in milliseconds. */
  readonly at: number;
  /** The nodes that answered, by their ids. */
  readonly nodes: ReadonlyMap<string, NodePing>;
  /** All nodes that are there listed what they run: what is in no list does not run on any of them. */
  readonly complete: boolean;
  readonly workloads: readonly WorkloadSummary[];
}

/** Nodes that answer now. */
export async function pingNodes(
  client: NexClient,
  options: { stall: number; signal: AbortSignal },
): Promise<Map<string, NodePing>> {
  const { nodes } = await client.pingNodes(options);
  return new Map(nodes.map((node) => [node.node_id, node]));
}

/** Asks the nodes for the workloads of a namespace that have one of the names. */
export async function observe(
  client: NexClient,
  { namespace, names, nodes }: { namespace: string; names: string[]; nodes: ReadonlyMap<string, NodePing> },
  signal: AbortSignal,
): Promise<Observation> {
  const at = performance.now();
  const listed = await client.listWorkloads({ namespace, filter: names, expected: Math.max(1, nodes.size), signal });
  return {
    at,
    nodes,
    complete: listed.errors.length === 0 && nodes.size > 0 && listed.nodes >= nodes.size,
    // To `system` nodes list all namespaces; those of Nex 0.4.1 list what is in it, and do not say a namespace.
    workloads: listed.workloads.filter((workload) => (workload.namespace ?? namespace) === namespace),
  };
}
