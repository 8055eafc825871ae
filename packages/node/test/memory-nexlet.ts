import type { Feeds, NexletDefinition, StartContext } from '@nex-nix/nexlet';
import type { WorkloadSummary } from '@nex-nix/protocol';

export interface MemoryNexlet {
  readonly definition: NexletDefinition;
  /** What was started and not stopped, by id. */
  readonly workloads: Map<string, StartContext>;
  readonly calls: string[];
  /** Held open while a promise is here: lets a test decide how long a start or stop takes. */
  gate: Promise<unknown> | undefined;
  feeds: Feeds | undefined;
}

/** A whole nexlet that keeps its workloads in a map and runs nothing. */
export function memoryNexlet(overrides: Partial<NexletDefinition> = {}): MemoryNexlet {
  const workloads = new Map<string, StartContext>();
  const calls: string[] = [];
  const nexlet: MemoryNexlet = {
    workloads,
    calls,
    gate: undefined,
    feeds: undefined,
    definition: {
      name: 'memory',
      type: 'memory',
      version: '1.2.3',
      description: 'Keeps workloads in a map',
      lifecycles: ['service', 'job'],
      startRequestSchema: {
        type: 'object',
        required: ['program'],
        properties: { program: { type: 'string' }, fail: { type: 'boolean' } },
      },
      async ready(feeds) {
        nexlet.feeds = feeds;
      },
      async start(context) {
        calls.push(`start ${context.request.name}`);
        await nexlet.gate;
        if ((context.runRequest as { fail?: boolean }).fail === true) throw new Error('told to fail');
        workloads.set(context.workloadId, context);
        context.feeds.event(context.request.namespace, 'WORKLOADSTARTED', { id: context.workloadId });
        context.feeds.log(context.request.namespace, context.workloadId, 'stdout', `${context.request.name} started`);
        return { id: context.workloadId, name: context.request.name };
      },
      async stop(id) {
        calls.push(`stop ${id}`);
        await nexlet.gate;
        return workloads.delete(id);
      },
      get: async (id) => workloads.get(id)?.request,
      list: async () => [...workloads.values()].map(summarize),
      async lameduck(delay) {
        calls.push(`lameduck ${delay}`);
      },
      bid: async () => ({ missing_bytes: 42 }),
      async close() {
        calls.push('close');
      },
      ...overrides,
    },
  };
  return nexlet;
}

function summarize({ workloadId, request }: StartContext): WorkloadSummary {
  return {
    id: workloadId,
    name: request.name,
    namespace: request.namespace,
    runtime: '--',
    start_time: '2026-05-01T10:01:00Z',
    tags: request.tags,
    metadata: {},
    workload_lifecycle: request.workload_lifecycle,
    workload_state: 'running',
    workload_type: request.workload_type,
  };
}
