import { SYSTEM_NAMESPACE, type WorkloadSummary } from '@nex-nix/protocol';
import type { NodeContext } from '../node-context.ts';
import type { Metric } from './metric.ts';
import { workloadMetrics } from './workload-metrics.ts';

/** States of a node, of which it is in one. */
const STATES: readonly NodeContext['state'][] = ['starting', 'running', 'lameduck', 'stopping'];

/** What a node knows of itself, without asking anybody. */
export interface NodeFigures extends Pick<
  NodeContext,
  'id' | 'name' | 'nexus' | 'version' | 'state' | 'startTime' | 'counters'
> {
  readonly nexlets: readonly { readonly type: string; readonly health: string }[];
}

/** What a node knows of itself, its nexlets and their workloads, which it asks for. */
export async function nodeMetrics(node: NodeContext): Promise<Metric[]> {
  const { id, name, nexus, version, state, startTime, counters, registry } = node;
  const nexlets = registry
    .all()
    .map((agent) => ({ type: agent.request.register_type, health: registry.health(agent) }));
  const own = ownMetrics({ id, name, nexus, version, state, startTime, counters, nexlets });
  return [...own, ...workloadMetrics(await listAll(node))];
}

async function listAll(node: NodeContext): Promise<WorkloadSummary[]> {
  if (node.nc.isClosed()) return [];
  return node.agents.list({ namespace: SYSTEM_NAMESPACE, filter: [] }, new AbortController().signal);
}

/** The metrics of a node but for those of its workloads. */
export function ownMetrics(node: NodeFigures): Metric[] {
  const { id, name, nexus, version, startTime, counters } = node;
  const counter = (metric: string, help: string, value: number): Metric => ({
    name: metric,
    help,
    type: 'counter',
    samples: [{ value }],
  });
  const nexlets = Map.groupBy(node.nexlets, ({ type, health }) => `${type}\0${health}`);
  return [
    {
      name: 'nex_node_info',
      help: 'Who the node is; always 1.',
      type: 'gauge',
      samples: [{ labels: { id, name, nexus, version }, value: 1 }],
    },
    {
      name: 'nex_node_state',
      help: '1 for the state that the node is in.',
      type: 'gauge',
      samples: STATES.map((state) => ({ labels: { state }, value: node.state === state ? 1 : 0 })),
    },
    {
      name: 'nex_node_start_time_seconds',
      help: 'When the node started, since 1970.',
      type: 'gauge',
      samples: [{ value: startTime.getTime() / 1_000 }],
    },
    {
      name: 'nex_nexlets',
      help: 'Nexlets of the node by workload type and health.',
      type: 'gauge',
      samples: [...nexlets].map(([key, same]) => {
        const [type = '', health = ''] = key.split('\0');
        return { labels: { type, health }, value: same.length };
      }),
    },
    counter('nex_auctions_total', 'Auctions that the node heard of.', counters.auctions),
    counter('nex_bids_total', 'Auctions that the node made a bid in.', counters.bids),
    counter('nex_deployments_total', 'Workloads that were given to the node to start.', counters.deployments),
    counter(
      'nex_deployment_failures_total',
      'Workloads that were given to the node and that no nexlet of it accepted.',
      counters.deploymentFailures,
    ),
  ];
}
