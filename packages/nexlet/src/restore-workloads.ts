import type { AgentStartWorkloadRequest, NatsConnectionData, RegisterAgentResponse } from '@nex-nix/protocol';
import type { NexletParts } from './nexlet-endpoints.ts';
import { startFrom } from './nexlet-endpoints.ts';
import { isAlive } from './workload-summaries.ts';

/**
 * Does what a node says that a nexlet should be running: what is alive here gets its new credentials, the rest is
 * started, but for jobs that have begun. All at once; what fails is logged and holds up nothing else.
 */
export async function restoreWorkloads(
  parts: NexletParts,
  { existing_state: wanted, renewals = {} }: Pick<RegisterAgentResponse, 'existing_state' | 'renewals'>,
): Promise<void> {
  const entries = Object.entries(wanted);
  const begun = Object.entries(renewals);
  if (entries.length === 0 && begun.length === 0) return;
  const alive = await aliveIds(parts);
  await Promise.all([
    ...entries.map(([id, entry]) => (alive.has(id) ? renew(parts, id, entry.workload_creds) : start(parts, id, entry))),
    ...begun.filter(([id]) => alive.has(id)).map(([id, credentials]) => renew(parts, id, credentials)),
  ]);
  parts.changed();
}

async function aliveIds({ definition, logger }: NexletParts): Promise<Set<string>> {
  try {
    const workloads = await definition.list({ namespace: 'system', filter: [] });
    return new Set(workloads.filter(isAlive).map(({ id }) => id));
  } catch (error) {
    logger.warn({ err: error }, 'workloads cannot be listed');
    return new Set();
  }
}

async function renew({ definition, logger }: NexletParts, id: string, credentials: NatsConnectionData): Promise<void> {
  try {
    await definition.renew?.(id, credentials);
  } catch (error) {
    logger.warn({ err: error, workloadId: id }, 'credentials of a workload could not be renewed');
  }
}

async function start(parts: NexletParts, id: string, entry: AgentStartWorkloadRequest): Promise<void> {
  try {
    await startFrom(parts, id, entry, true);
  } catch (error) {
    parts.logger.error({ err: error, workloadId: id }, 'existing workload could not be restored');
  }
}
