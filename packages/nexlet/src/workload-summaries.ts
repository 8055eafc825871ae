import { SYSTEM_NAMESPACE, type WorkloadSummary } from '@nex-nix/protocol';

/** Whether there is something of a workload that runs, or is about to. */
export function isAlive({ workload_state: state }: WorkloadSummary): boolean {
  return state !== 'stopped' && state !== 'error';
}

/** Of `workloads`, what a list request asks for, each with the node that it is on. */
export function summariesFor(
  workloads: readonly WorkloadSummary[],
  { namespace, filter, nodeId }: { namespace: string; filter: readonly string[]; nodeId: string },
): WorkloadSummary[] {
  return workloads
    .filter((workload) => isAskedFor(workload, namespace, filter))
    .map((workload) => ({ ...workload, metadata: { ...workload.metadata, node_id: nodeId } }));
}

function isAskedFor(workload: WorkloadSummary, namespace: string, filter: readonly string[]): boolean {
  if (namespace !== SYSTEM_NAMESPACE && workload.namespace !== namespace) return false;
  return filter.length === 0 || filter.includes(workload.id) || filter.includes(workload.name);
}
