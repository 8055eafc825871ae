import type { StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import type { Health } from '../health/health-watch.ts';
import type { WorkloadPlan } from '../request/workload-plan.ts';
import type { Restarts } from './restarts.ts';
import type { WorkloadEnd } from './workload-end.ts';

/** What lists show of a workload beside what it was asked to be. */
export interface Shown {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly state: WorkloadState;
  readonly startTime: Date;
  readonly end: WorkloadEnd | undefined;
  readonly restarts: Restarts;
  /** Since when the present run does its work. */
  readonly upSince: Date | undefined;
  /** Whether its next run waits for nothing but its node. */
  readonly waitsForCredentials: boolean;
  /** Undefined when it is not checked. */
  readonly health: Health | undefined;
}

/** A service or a job as lists have it. What Nex has no field for is in the metadata, as text. */
export function summarise(shown: Shown): WorkloadSummary {
  const { id, request, state, startTime } = shown;
  return {
    id,
    name: request.name,
    namespace: request.namespace,
    runtime: '--',
    start_time: startTime.toISOString(),
    tags: request.tags,
    metadata: metadataOf(shown),
    workload_lifecycle: request.workload_lifecycle,
    workload_state: state,
    workload_type: request.workload_type,
  };
}

function metadataOf(shown: Shown): Record<string, string> {
  const { plan, end, restarts, upSince, health } = shown;
  const { error, exitCode } = end ?? restarts.last ?? {};
  const { next } = restarts;
  const alive = end === undefined;
  const loop = alive && restarts.isCrashLoop(upSince);
  const why = error?.message ?? (loop ? 'it ends soon after each start' : undefined);
  const wait = shown.waitsForCredentials ? 'it waits for credentials from its node' : undefined;
  const reason = [why === undefined || !loop ? why : `crash loop: ${why}`, wait].filter((text) => text !== undefined);
  return {
    store_path: plan.storePath,
    sandbox: plan.sandbox,
    restarts: String(restarts.count),
    ...(reason.length === 0 ? {} : { reason: reason.join('; ') }),
    ...(exitCode === undefined ? {} : { exit_code: String(exitCode) }),
    ...(loop ? { crash_loop: 'true' } : {}),
    ...(alive && next !== undefined ? { next_start: next.toISOString() } : {}),
    ...(alive && health !== undefined ? { health: health.status } : {}),
    ...(alive && health?.failure !== undefined ? { health_failure: health.failure } : {}),
  };
}
