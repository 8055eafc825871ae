import type { WorkloadSummary } from '@nex-nix/protocol';
import type { DesiredWorkload } from './desired-workload.ts';

/** What is to be done about one workload. */
export type Step =
  /** It runs, and the desired state does not know it. */
  | { readonly kind: 'adopt'; readonly id: string }
  /** It was removed, and runs. */
  | { readonly kind: 'stop'; readonly id: string; readonly namespace: string }
  /** It runs or ran, for the first time that is known of. */
  | { readonly kind: 'started'; readonly workload: DesiredWorkload }
  /** It should run, and does not. */
  | { readonly kind: 'start'; readonly workload: DesiredWorkload }
  /** It is over: a job that ran, or a start that nobody was promised. */
  | { readonly kind: 'forget'; readonly workload: DesiredWorkload };

/** What is known when a plan is made. */
export interface Observation {
  readonly listed: readonly WorkloadSummary[];
  readonly wanted: readonly DesiredWorkload[];
  readonly isRemoved: (id: string) => boolean;
  /**
   * Whether a workload that is not listed is certainly not there: every nexlet has answered, one is there that it
   * belongs to, and nobody is about to start it.
   */
  readonly isAbsent: (workload: DesiredWorkload) => boolean;
  /** Whether its nexlet has accepted it in this very life: then it has been there, and is no more. */
  readonly wasPlaced: (workload: DesiredWorkload) => boolean;
}

/**
 * Compares what nexlets list with what should run.
 *
 * A workload that ended and is still listed is left to its nexlet, whose matter restarts are. Services that are not
 * there are started. So are jobs, but only those of which nothing says that they ever began. A start that was asked for and
 * not confirmed is forgotten unless it runs: nobody was told that it would.
 */
export function planReconcile(observation: Observation): Step[] {
  const { listed, wanted } = observation;
  const ids = new Set(listed.map(({ id }) => id));
  const byId = new Map(wanted.map((workload) => [workload.id, workload]));
  return [
    ...listed.flatMap((summary) => stepOfListed(summary, byId.get(summary.id), observation)),
    ...wanted.filter(({ id }) => !ids.has(id)).flatMap((workload) => stepOfUnlisted(workload, observation)),
  ];
}

function stepOfListed(
  { id, namespace, workload_state: state, workload_lifecycle: lifecycle }: WorkloadSummary,
  workload: DesiredWorkload | undefined,
  { isRemoved }: Observation,
): Step[] {
  const over = state === 'stopped' || state === 'error';
  if (workload === undefined) {
    if (over || state === 'stopping') return [];
    if (!isRemoved(id)) return [{ kind: 'adopt', id }];
    return namespace === undefined ? [] : [{ kind: 'stop', id, namespace }];
  }
  if (over && lifecycle === 'job') return [{ kind: 'forget', workload }];
  // Until it runs, a later node may have to start it again.
  if (state !== 'starting' && workload.progress !== 'started') return [{ kind: 'started', workload }];
  return [];
}

function stepOfUnlisted(workload: DesiredWorkload, { isAbsent, wasPlaced }: Observation): Step[] {
  if (!isAbsent(workload)) return [];
  if (workload.progress === 'starting') return [{ kind: 'forget', workload }];
  if (workload.request.workload_lifecycle !== 'job') return [{ kind: 'start', workload }];
  const began = workload.progress === 'started' || wasPlaced(workload);
  return [{ kind: began ? 'forget' : 'start', workload }];
}
