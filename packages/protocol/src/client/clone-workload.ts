import type { NatsConnection } from '@nats-io/nats-core';
import type { Tags } from '../messages/shared-messages.ts';
import type { StopWorkloadResponse } from '../messages/workload-messages.ts';
import type { PlacedWorkload, WorkloadToPlace } from '../placement/workload-to-place.ts';
import { ProtocolError } from '../protocol-error.ts';
import { getWorkload, runRequestOf, type WorkloadDefinition } from './get-workload.ts';
import type { NexClient } from './nex-client.ts';

export interface CloneWorkloadOptions extends Pick<
  WorkloadToPlace,
  'allowClearEnvironment' | 'avoid' | 'labels' | 'needs' | 'sender' | 'signal' | 'strategy' | 'timeout'
> {
  /** Where to look for the workload. Default: the client's. The clone runs in the namespace of its original. */
  namespace?: string | undefined;
  /** Tags that the node of the clone must have. Those of the original do not count. */
  tags?: Tags;
  /** Stop the original once the clone is accepted. Default false. */
  stop?: boolean;
}

export interface ClonedWorkload extends PlacedWorkload {
  /** What became of the original, where it was to be stopped. */
  readonly stopped?: StopWorkloadResponse;
}

/** Starts a workload once more, with its sealed environment sealed again for the nexlet that gets it. */
export async function cloneWorkload(
  nc: NatsConnection,
  client: NexClient,
  id: string,
  { namespace = client.namespace, stop = false, ...placement }: CloneWorkloadOptions,
): Promise<ClonedWorkload> {
  const original = await getWorkload(nc, client, id, { namespace, signal: placement.signal });
  if (original === undefined) {
    throw new ProtocolError('NEX_WORKLOAD_NOT_FOUND', `Cannot clone workload "${id}": no node runs it`, {
      hint: 'See what runs: nex workload list',
    });
  }
  const clone = await client.startWorkload({ ...workloadOf(id, original), ...placement });
  if (!stop) return clone;
  const options = { namespace: original.request.namespace, signal: placement.signal };
  try {
    return { ...clone, stopped: await client.stopWorkload(id, options) };
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    const message = `Workload "${id}" was cloned as "${clone.id}", but it still runs: ${cause.message}`;
    throw new ProtocolError(cause.code, message, { cause, hint: cause.hint });
  }
}

function workloadOf(id: string, { request, environment }: WorkloadDefinition): WorkloadToPlace {
  const { encrypted_environment: sealed, ...rest } = runRequestOf(request.run_request) ?? notAnObject(id);
  if (environment === undefined && sealed !== undefined && sealed !== null) {
    const message = `Cannot clone workload "${id}": its nexlet does not hand out its sealed environment`;
    throw new ProtocolError('NEX_SEAL_INVALID', message, { hint: 'Start it again with its environment' });
  }
  return {
    type: request.workload_type,
    name: request.name,
    lifecycle: request.workload_lifecycle,
    namespace: request.namespace,
    description: request.description,
    runRequest: rest,
    ...(request.metadata === undefined ? {} : { metadata: request.metadata }),
    ...(request.reference === undefined ? {} : { reference: request.reference }),
    ...(environment === undefined ? {} : { environment }),
  };
}

function notAnObject(id: string): never {
  throw new ProtocolError('NEX_MESSAGE_INVALID', `Cannot clone workload "${id}": its run request is not a JSON object`);
}
