import type { Deployment } from './deployment.ts';
import type { Deployments } from './deployments.ts';
import type { DeploymentStatus } from './status.ts';

/**
 * Follows a change until it is done, or has failed: the first status about it that is neither `progressing` nor
 * `removing`. Undefined when `signal` is aborted first.
 */
export async function untilSettled(
  deployments: Deployments,
  deployment: Deployment,
  { signal, onStatus }: { signal: AbortSignal; onStatus?: (status: DeploymentStatus) => void },
): Promise<DeploymentStatus | undefined> {
  for await (const status of deployments.watch(deployment.name, { signal, since: deployment })) {
    onStatus?.(status);
    if (status.phase !== 'progressing' && status.phase !== 'removing') return status;
  }
  return undefined;
}
