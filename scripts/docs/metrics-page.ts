// The metrics of a node, collected from the functions that a node collects them with.
import { type Metric, ProcessMetrics } from '@nex-nix/node';
import type { WorkloadSummary } from '@nex-nix/protocol';
import { cacheMetrics, fetchMetrics, storeMetrics } from '../../packages/cli/src/node-metrics.ts';
import { ownMetrics } from '../../packages/node/src/metrics/node-metrics.ts';
import { workloadMetrics } from '../../packages/node/src/metrics/workload-metrics.ts';
import { code, page, prose, table } from './markdown.ts';

/** A workload of which everything is known that metrics are made of. */
const WORKLOAD: WorkloadSummary = {
  id: 'id',
  name: 'name',
  namespace: 'namespace',
  runtime: '--',
  start_time: '',
  tags: {},
  workload_lifecycle: 'service',
  workload_state: 'running',
  workload_type: 'nix',
  metadata: {
    sandbox: 'oci',
    health: 'healthy',
    crash_loop: 'true',
    cpu_seconds: '0',
    memory_bytes: '0',
    memory_peak_bytes: '0',
    machine_memory_bytes: '0',
    pids: '0',
    network_rx_bytes: '0',
    network_tx_bytes: '0',
    restarts: '0',
    invocations: '0',
    failed_invocations: '0',
    invocation_seconds: '0',
  },
};

const NODE = {
  id: 'id',
  name: 'name',
  nexus: 'nexus',
  version: '0',
  state: 'running',
  startTime: new Date(0),
  counters: { auctions: 0, bids: 0, deployments: 0, deploymentFailures: 0 },
  nexlets: [{ type: 'nix', health: 'healthy' }],
} as const;

/** `docs/reference/metrics.md`. */
export function metricsPage(): string {
  using ofProcess = new ProcessMetrics();
  return page(
    'Metrics',
    'What `nex node up --metrics-port PORT` serves at `/metrics`, as Prometheus reads it. Guide: [operating nodes](../guides/operating-nodes.md#metrics).',
    '`/healthz` of the same port answers 200, or 503 and why: the node is starting, a lame duck, or has no connection to NATS. There is no authentication.',
    '## Node',
    metricTable(ownMetrics(NODE)),
    '## Workloads',
    'Of workloads that have not ended. A value that is not known has no line.',
    metricTable(workloadMetrics([WORKLOAD])),
    '## Store and cache',
    metricTable([
      ...fetchMetrics({ paths: 0, bytes: 0 }),
      ...storeMetrics({ paths: 0, bytes: 0 }),
      ...cacheMetrics([{ subject: '', requests: 0, errors: 0 }]),
    ]),
    '## Process',
    metricTable(ofProcess.collect()),
  );
}

function metricTable(metrics: readonly Metric[]): string {
  const rows = metrics.map(({ name, type, help, samples }) => {
    const [first] = samples;
    if (first === undefined) throw new Error(`Cannot document the metric "${name}": the example has no value of it`);
    return [
      code(name),
      type,
      Object.keys(first.labels ?? {})
        .map(code)
        .join(', '),
      prose(help),
    ];
  });
  return table(
    ['Metric', 'Type', 'Labels', 'Meaning'],
    rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1)),
  );
}
