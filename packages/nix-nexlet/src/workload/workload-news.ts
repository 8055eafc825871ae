import type { Feeds } from '@nex-nix/nexlet';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import type { WorkloadEnd } from './workload-end.ts';

interface Subject {
  readonly id: string;
  readonly request: StartWorkloadRequest;
}

/** Event bodies as Nex 0.4 has them (`models/events.go`). */
function bodyOf({ id, request }: Subject) {
  return { id, namespace: request.namespace, workload_type: request.workload_type };
}

/** Tells its namespace that a workload runs. */
export function tellStarted(feeds: Feeds, workload: Subject): void {
  feeds.event(workload.request.namespace, 'WORKLOADSTARTED', bodyOf(workload));
}

/** Tells its namespace that a workload has ended, and what went wrong. */
export function tellStopped(feeds: Feeds, workload: Subject, { error }: WorkloadEnd): void {
  const body = { ...bodyOf(workload), ...(error === undefined ? {} : { error }) };
  feeds.event(workload.request.namespace, 'WORKLOADSTOPPED', body);
}
