import type { NexClient } from '@nex-nix/protocol';
import type { Context } from './context.ts';

/** Label of what a controller keeps running: it would only start another one. */
const DEPLOYMENT = 'nex-deployment';

/**
 * Stops workloads of the same name and type in the namespace, so that the new one finds their ports free. Returns their ids.
 * Those of a deployment stay: they are not from here.
 */
export async function stopEarlier(
  context: Context,
  client: NexClient,
  { name, type }: { name: string; type: string },
): Promise<string[]> {
  const { namespace, signal } = context;
  const { ProtocolError } = await import('@nex-nix/protocol');
  const { workloads } = await client.listWorkloads({ filter: [name], signal });
  const stopped: string[] = [];
  for (const workload of workloads) {
    const isHere = (workload.namespace ?? namespace) === namespace && workload.workload_type === type;
    if (workload.name !== name || !isHere || workload.workload_state === 'stopped') continue;
    if (workload.tags[DEPLOYMENT] !== undefined) {
      context.say(`Workload ${name} (${workload.id}) belongs to a deployment and is left running`);
      continue;
    }
    context.say(`Workload ${name} (${workload.id}) already exists on the target. Attempting to stop it`);
    try {
      await client.stopWorkload(workload.id, { namespace, signal });
      stopped.push(workload.id);
    } catch (error) {
      // It has ended by itself meanwhile.
      if (!(error instanceof ProtocolError) || error.code !== 'NEX_WORKLOAD_NOT_FOUND') throw error;
    }
  }
  return stopped;
}
