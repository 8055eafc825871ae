import type { Deployment } from '../deployments/deployment.ts';
import type { DeploymentStatus, Phase, ReplicaStatus } from '../deployments/status.ts';
import type { Candidate, Goal } from '../replicas/plan.ts';

/** So many failures in a row are no accident any more. */
const DEGRADED_AFTER = 3;

/** All that a controller knows of a deployment, as far as it shows it. */
export interface Situation {
  readonly deployment: Deployment;
  readonly goal: Goal;
  /** The nodes have been asked in this term. */
  readonly observed: boolean;
  readonly candidates: readonly Candidate[];
  readonly starts: DeploymentStatus['starts'];
  /** The revision that ran last in all replicas. */
  readonly current: number | undefined;
  readonly failed: DeploymentStatus['failed'];
  readonly rolledBack: boolean;
  readonly failures: number;
  /** `final`: trying again does not help. */
  readonly error: { readonly message: string; readonly final: boolean } | undefined;
}

export function phaseOf(situation: Situation): Phase {
  const { deployment, goal, observed, candidates, starts, current, rolledBack, failures, error } = situation;
  const none = candidates.length === 0 && starts.length === 0;
  if (deployment.removed !== undefined) return observed && none ? 'removed' : 'removing';
  if (rolledBack) return 'rolled-back';
  if (failures >= DEGRADED_AFTER || error?.final === true) return 'degraded';
  const running = candidates.filter(
    ({ revision, running, present, failed, stopping }) =>
      revision === goal.revision && running && present && !failed && !stopping,
  ).length;
  const alone = running === goal.wanted && candidates.length === goal.wanted && starts.length === 0;
  return current === goal.revision && alone ? 'complete' : 'progressing';
}

/** The part of the status that does not depend on who writes it. */
export function describeSituation(
  situation: Situation,
  replicas: ReplicaStatus[],
): Omit<DeploymentStatus, 'controller' | 'term' | 'updated'> {
  const { deployment, goal, current, failed, starts, failures, error } = situation;
  const { uid, generation, attempt } = deployment;
  const running = replicas.filter(({ state }) => state === 'running');
  const numbers = new Set([goal.revision, ...replicas.map(({ revision }) => revision)]);
  return {
    uid,
    generation,
    attempt,
    phase: phaseOf(situation),
    wanted: goal.wanted,
    ...(current === undefined ? {} : { revision: current }),
    revisions: [...numbers]
      .sort((a, b) => a - b)
      .map((number) => ({
        revision: number,
        wanted: number === goal.revision ? goal.wanted : 0,
        running: running.filter(({ revision }) => revision === number).length,
      })),
    replicas,
    starts,
    ...(failed === undefined ? {} : { failed }),
    failures,
    ...(error === undefined ? {} : { error: error.message }),
  };
}
