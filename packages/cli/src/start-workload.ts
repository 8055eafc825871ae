import type { NatsConnection } from '@nats-io/nats-core';
import type { NexClient, PlacedWorkload, WorkloadToPlace } from '@nex-nix/protocol';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';

export interface StartOptions {
  nc: NatsConnection;
  client: NexClient;
  /** Wait until it runs (default), or return as soon as a node has accepted it. */
  wait?: boolean;
  onAccepted?: (workload: PlacedWorkload) => void;
}

/** How long a workload may take from accepted to running, in milliseconds: its closure is fetched in this time. */
const START_TIMEOUT = 10 * 60_000;

/**
 * Starts a workload and waits until it runs; throws CLI_WORKLOAD_FAILED with the node's reason when it does not.
 * The outcome comes from the namespace's events, which are subscribed to before the workload is deployed.
 */
export async function startAndWait(
  context: Context,
  options: StartOptions,
  workload: WorkloadToPlace,
): Promise<PlacedWorkload> {
  const { nc, client, wait = true, onAccepted } = options;
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(START_TIMEOUT)]);
  const { followEvents } = await import('@nex-nix/protocol');
  await using events = followEvents(nc, { from: context.namespace, signal });
  await nc.flush();
  const started = await client.startWorkload({ ...workload, signal: context.signal });
  onAccepted?.(started);
  // Nodes of Go Nex need not send events; their nexlets answer a start when the workload runs.
  if (!wait || started.nodeId === undefined) return started;
  for await (const { name, body } of events) {
    const event = body as WorkloadEvent;
    if (event.id !== started.id) continue;
    if (name === 'WORKLOADSTARTED') return started;
    if (name === 'WORKLOADSTOPPED') throw failed(started, event.error);
  }
  const which = `workload "${started.name}" [${started.id}]`;
  if (context.signal.aborted)
    throw new CliError('CLI_INTERRUPTED', `Stopped waiting for ${which}; it goes on starting`);
  throw new CliError(
    'CLI_WORKLOAD_TIMEOUT',
    `Cannot see ${which} run: it was accepted, but is not up after ${START_TIMEOUT / 60_000} minutes`,
    {
      hint: `nex workload list --filter ${started.id}`,
    },
  );
}

/** What the body of WORKLOADSTARTED and WORKLOADSTOPPED holds. */
interface WorkloadEvent {
  id?: string;
  error?: { code?: string; message?: string };
}

function failed({ name, id }: PlacedWorkload, error: WorkloadEvent['error']): CliError {
  return new CliError(
    'CLI_WORKLOAD_FAILED',
    `Workload "${name}" [${id}] did not start: ${error?.message ?? 'it ended at once, without an error'}`,
    {
      hint: `nex logs ${id}`,
    },
  );
}
