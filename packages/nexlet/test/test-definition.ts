import type { WorkloadSummary } from '@nex-nix/protocol';
import type { NexletDefinition, StartContext } from '../src/index.ts';

/** A definition that notes what it is asked to do, and what was started. */
export function testDefinition(overrides: Partial<NexletDefinition> = {}) {
  const started = new Map<string, StartContext>();
  const renewed: [string, string][] = [];
  const calls: string[] = [];
  const definition: NexletDefinition = {
    name: 'test_exec',
    type: 'test',
    version: '1.0.0',
    lifecycles: ['service', 'job'],
    startRequestSchema: { type: 'object' },
    ready: async () => void calls.push('ready'),
    start: async (context) => {
      if (context.request.name === 'bad') throw new Error('bad\nname');
      started.set(context.workloadId, context);
      return { id: context.workloadId, name: context.request.name };
    },
    stop: async (id) => started.delete(id),
    get: async (id) => started.get(id)?.request,
    list: async () => [...started.values()].map(summaryOf),
    renew: async (id, credentials) => void renewed.push([id, credentials.conn_name]),
    close: async () => void calls.push('close'),
    ...overrides,
  };
  return { definition, started, renewed, calls };
}

export function summaryOf({ workloadId, request }: StartContext): WorkloadSummary {
  return {
    id: workloadId,
    name: request.name,
    namespace: request.namespace,
    runtime: '--',
    start_time: '2026-05-01T10:01:00Z',
    tags: {},
    workload_lifecycle: request.workload_lifecycle,
    workload_state: 'running',
    workload_type: 'test',
  };
}
