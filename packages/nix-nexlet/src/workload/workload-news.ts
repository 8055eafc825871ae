import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import type { Followed } from './restarts.ts';
import type { WorkloadEnd } from './workload-end.ts';

/** Whom the news are about, and where they go. */
interface Subject {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly feeds: Feeds;
  readonly logger: Logger;
}

/** Tells its namespace that a workload runs, each time that it was started. */
export function tellStarted({ feeds, logger, ...of }: Subject): void {
  logger.info({ workload: of.id, name: of.request.name }, 'workload running');
  feeds.event(of.request.namespace, 'WORKLOADSTARTED', bodyOf(of));
}

/** Tells its namespace that a workload has ended for good, and what went wrong. */
export function tellStopped({ feeds, logger, ...of }: Subject, { state, error }: WorkloadEnd): void {
  const why = error === undefined ? {} : { error };
  logger.info({ workload: of.id, name: of.request.name, ...why }, `workload ${state}`);
  feeds.event(of.request.namespace, 'WORKLOADSTOPPED', { ...bodyOf(of), ...why });
}

/** Tells its namespace that a run has ended, and that another one follows. `crashLoop`: as so often before. */
export function tellRestarting({ feeds, logger, ...of }: Subject, followed: Followed, crashLoop: boolean): void {
  const { last, restarts, next } = followed;
  const why = last.error === undefined ? {} : { error: last.error };
  const body = { ...bodyOf(of), ...why, restarts, next_start: next.toISOString() };
  const fields = { workload: of.id, name: of.request.name, ...why, restarts, next };
  logger.info(fields, `workload is started again${crashLoop ? ': crash loop' : ''}`);
  feeds.event(of.request.namespace, 'WORKLOADRESTARTING', body);
  if (crashLoop) feeds.event(of.request.namespace, 'WORKLOADCRASHLOOP', body);
}

/** Event bodies as Nex 0.4 has them (`models/events.go`). */
function bodyOf({ id, request }: Pick<Subject, 'id' | 'request'>) {
  return { id, namespace: request.namespace, workload_type: request.workload_type };
}
