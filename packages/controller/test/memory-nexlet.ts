import type { NexletDefinition, StartContext } from '@nex-nix/nexlet';
import type { WorkloadSummary } from '@nex-nix/protocol';

/** What a workload does: runs, unless told otherwise. */
export interface MemoryRequest {
  version: string;
  /** Is not accepted. */
  refuse?: boolean;
  /** Goes on starting. */
  hang?: boolean;
  /** Ends with an error so long after its start. */
  dieAfterMs?: number;
}

interface Kept {
  readonly context: StartContext;
  readonly request: MemoryRequest;
  readonly at: number;
}

/** What the workloads of one machine are; they outlive the node that started them. */
export class Machine {
  readonly workloads = new Map<string, Kept>();
  /** Every start that was asked for, by version. */
  readonly started: string[] = [];

  /** A nexlet that runs nothing, but says so as if it did. */
  nexlet(): NexletDefinition {
    return {
      name: 'memory',
      type: 'memory',
      version: '1.0.0',
      lifecycles: ['service'],
      startRequestSchema: {
        type: 'object',
        required: ['version'],
        properties: {
          version: { type: 'string' },
          refuse: { type: 'boolean' },
          hang: { type: 'boolean' },
          dieAfterMs: { type: 'number' },
        },
      },
      start: async (context) => {
        const request = context.runRequest as MemoryRequest;
        this.started.push(request.version);
        if (request.refuse === true) throw new Error(`version ${request.version} is refused`);
        this.workloads.set(context.workloadId, { context, request, at: performance.now() });
        return { id: context.workloadId, name: context.request.name };
      },
      stop: async (id) => this.workloads.delete(id),
      get: async (id) => this.workloads.get(id)?.context.request,
      list: async () => [...this.workloads.values()].map(summarize),
      bid: async ({ workload }) => ({
        workloads: this.workloads.size,
        siblings: [...this.workloads.values()].filter(({ context }) => context.request.name === workload?.name).length,
      }),
    };
  }

  /** The versions of the workloads of that name, in order. */
  versions(name: string): string[] {
    return [...this.workloads.values()]
      .filter(({ context }) => context.request.name === name)
      .map(({ request }) => request.version)
      .sort();
  }
}

function summarize({ context, request, at }: Kept): WorkloadSummary {
  const { name, namespace, tags, workload_lifecycle: lifecycle, workload_type: type } = context.request;
  const dead = request.dieAfterMs !== undefined && performance.now() - at >= request.dieAfterMs;
  return {
    id: context.workloadId,
    name,
    namespace,
    runtime: '--',
    start_time: '2026-05-01T10:01:00Z',
    tags,
    metadata: dead ? { reason: 'exit code 1' } : {},
    workload_lifecycle: lifecycle,
    workload_state: dead ? 'error' : request.hang === true ? 'starting' : 'running',
    workload_type: type,
  };
}
