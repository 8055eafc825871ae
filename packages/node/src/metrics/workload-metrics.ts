import type { WorkloadSummary } from '@nex-nix/protocol';
import type { Metric, Sample } from './metric.ts';

/** What metadata of a workload's summary becomes. The names are those that nexlets of this project use. */
const FROM_METADATA = [
  ['cpu_seconds', 'nex_workload_cpu_seconds_total', 'counter', 'Processor time of the workload.'],
  ['memory_bytes', 'nex_workload_memory_bytes', 'gauge', 'Memory of the workload, page cache included.'],
  ['memory_peak_bytes', 'nex_workload_memory_peak_bytes', 'gauge', 'Highest memory of the workload so far.'],
  [
    'machine_memory_bytes',
    'nex_workload_machine_memory_bytes',
    'gauge',
    'Memory that the virtual machine of the workload takes.',
  ],
  ['pids', 'nex_workload_processes', 'gauge', 'Processes and threads of the workload.'],
  ['network_rx_bytes', 'nex_workload_network_receive_bytes_total', 'counter', 'Bytes that the workload received.'],
  ['network_tx_bytes', 'nex_workload_network_transmit_bytes_total', 'counter', 'Bytes that the workload sent.'],
  ['restarts', 'nex_workload_restarts_total', 'counter', 'How often the program was started again.'],
  ['invocations', 'nex_function_invocations_total', 'counter', 'Invocations of the function that have ended.'],
  ['failed_invocations', 'nex_function_failures_total', 'counter', 'Invocations of the function that have failed.'],
] as const;

/** Of the list of a node's workloads: how many are in which state, and what each one uses. */
export function workloadMetrics(workloads: readonly WorkloadSummary[]): Metric[] {
  const alive = workloads.filter(({ workload_state: state }) => state !== 'stopped' && state !== 'error');
  return [
    {
      name: 'nex_workloads',
      help: 'Workloads of the node by state, lifecycle and type.',
      type: 'gauge',
      samples: countStates(workloads),
    },
    ...FROM_METADATA.map(([key, name, type, help]) => ({ name, help, type, samples: samplesOf(alive, key) })),
    {
      name: 'nex_function_duration_seconds',
      help: 'How long the invocations of the function took.',
      type: 'summary',
      samples: [
        ...samplesOf(alive, 'invocation_seconds').map((sample) => ({ ...sample, part: 'sum' as const })),
        ...samplesOf(
          alive.filter((workload) => figure(workload, 'invocation_seconds') !== undefined),
          'invocations',
        ).map((sample) => ({ ...sample, part: 'count' as const })),
      ],
    },
    {
      name: 'nex_workload_crash_loop',
      help: '1 for a workload that ends soon after each start.',
      type: 'gauge',
      samples: alive
        .filter(({ metadata }) => metadata?.['crash_loop'] === 'true')
        .map((workload) => ({ labels: labelsOf(workload), value: 1 })),
    },
    {
      name: 'nex_workload_healthy',
      help: '1 when the last health check of the workload succeeded, else 0.',
      type: 'gauge',
      samples: alive.flatMap((workload) => {
        const health = workload.metadata?.['health'];
        return health === undefined ? [] : [{ labels: labelsOf(workload), value: health === 'healthy' ? 1 : 0 }];
      }),
    },
  ];
}

function countStates(workloads: readonly WorkloadSummary[]): Sample[] {
  const groups = Map.groupBy(workloads, (workload) =>
    [workload.workload_state, workload.workload_lifecycle, workload.workload_type].join('\0'),
  );
  return [...groups.values()].flatMap((group) => {
    const [one] = group;
    if (one === undefined) return [];
    const { workload_state: state, workload_lifecycle: lifecycle, workload_type: type } = one;
    return [{ labels: { state, lifecycle, type }, value: group.length }];
  });
}

function samplesOf(workloads: readonly WorkloadSummary[], key: string): Sample[] {
  return workloads.flatMap((workload) => {
    const value = figure(workload, key);
    return value === undefined ? [] : [{ labels: labelsOf(workload), value }];
  });
}

function labelsOf({ namespace = '', name, id, metadata }: WorkloadSummary): Record<string, string> {
  const sandbox = metadata?.['sandbox'];
  return { namespace, name, id, ...(sandbox === undefined ? {} : { sandbox }) };
}

/** Nexlets of others may have anything in their metadata. */
function figure({ metadata }: WorkloadSummary, key: string): number | undefined {
  const text = metadata?.[key];
  return text !== undefined && /^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}
