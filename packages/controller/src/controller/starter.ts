import { type NexClient, type PlacedWorkload, ProtocolError } from '@nex-nix/protocol';
import type { Deployment, Revision } from '../deployments/deployment.ts';
import { type DeploymentKeysSchema, openDeploymentKey, openForDeployment, type XKey } from '../deployments/secrets.ts';
import { writeLabels } from '../replicas/labels.ts';
import { ControllerError } from '../controller-error.ts';
import type { JsonBucket } from '../store/json-bucket.ts';

/** How long a node may take to accept a replica, in milliseconds. */
const ACCEPT_TIMEOUT = 30_000;

export interface StartParts {
  readonly client: NexClient;
  readonly keys: JsonBucket<typeof DeploymentKeysSchema>;
  readonly key: string;
  /** The controller's own. */
  readonly xkey: XKey | undefined;
}

export interface StartRequest {
  readonly deployment: Deployment;
  readonly revision: Revision;
  /** Goes into the labels of the replica. */
  readonly start: string;
  /** Nodes that have a replica already, when there are others. */
  readonly avoid: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Has one replica accepted by a node.
 *
 * @throws {ProtocolError} as {@link NexClient.startWorkload}; {@link ControllerError} DEPLOYMENT_SEALED
 */
export async function startReplica(parts: StartParts, request: StartRequest): Promise<PlacedWorkload> {
  const { deployment, revision, start, avoid, signal } = request;
  const { name, namespace, uid, strategy } = deployment;
  const { type, description, runRequest, tags, needs } = revision;
  const environment = await openRevision(parts, request);
  const workload = {
    type,
    name,
    namespace,
    description,
    lifecycle: 'service' as const,
    runRequest,
    tags,
    labels: writeLabels({ deployment: name, uid, revision: revision.revision, start }),
    strategy,
    timeout: ACCEPT_TIMEOUT,
    signal,
    ...(needs === undefined ? {} : { needs }),
    ...(environment === undefined ? {} : { environment }),
  };
  if (avoid.length === 0) return parts.client.startWorkload(workload);
  try {
    return await parts.client.startWorkload({ ...workload, avoid });
  } catch (error) {
    if (!(error instanceof ProtocolError) || error.code !== 'NEX_NO_BIDS') throw error;
    return parts.client.startWorkload(workload);
  }
}

/** Whether the replica may run although its start ended with this error. */
export function mayHaveStarted(error: unknown): boolean {
  if (error instanceof ControllerError) return error.code === 'CONTROLLER_LEASE_LOST';
  return !(error instanceof ProtocolError) || ['NEX_NO_ANSWER', 'NEX_CONNECTION_CLOSED'].includes(error.code);
}

/** Whether another try may go well without anybody changing the deployment. */
export function mayPass(error: unknown): boolean {
  if (!(error instanceof ProtocolError)) return false;
  return error.kind === 'unreachable' || error.code === 'NEX_NO_BIDS';
}

async function openRevision(
  { keys, key, xkey }: StartParts,
  { deployment, revision }: StartRequest,
): Promise<Record<string, string> | undefined> {
  if (revision.environment === undefined) return undefined;
  const found = await keys.get(key);
  if (found === undefined || found.value.uid !== deployment.uid) {
    throw new ControllerError('DEPLOYMENT_SEALED', 'Cannot open its environment: its key is lost', {
      hint: 'Give the environment again with an update',
    });
  }
  return openForDeployment(revision.environment, openDeploymentKey(found.value, xkey));
}
