import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { readErrorReply } from '../wire/error-reply.ts';
import { gather } from '../wire/gather.ts';
import { isInterimReply } from '../wire/interim-reply.ts';
import type { NexClient } from './nex-client.ts';
import { ProtocolError } from '../protocol-error.ts';
import { controlSubjects, SYSTEM_NAMESPACE } from '../wire/subjects.ts';
import { StopWorkloadRequest, StopWorkloadResponse, type WorkloadSummary } from '../messages/workload-messages.ts';

/** How long a workload may take to end, in milliseconds: its grace period and then some. */
const STOP_TIMEOUT = 60_000;

export interface StopWorkloadOptions {
  /** Default: the client's. */
  namespace?: string | undefined;
  /** How long the workload may take to end, in milliseconds. Default 60 s. */
  timeout?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Finds the namespace of a workload and how many nodes will answer, then stops it. The answer of the node that has it
 * may come long after the "not found" of the others.
 */
export async function stopWorkload(
  nc: NatsConnection,
  client: NexClient,
  id: string,
  { namespace = client.namespace, timeout = STOP_TIMEOUT, signal }: StopWorkloadOptions,
): Promise<StopWorkloadResponse> {
  const listed = await client.listWorkloads({ filter: [id], namespace, signal });
  const found = listed.workloads.filter((workload) => workload.id === id);
  if (found.length === 0) throw listed.errors[0] ?? notFound(id, namespace);
  const home = namespace === SYSTEM_NAMESPACE ? singleNamespace(id, found) : namespace;

  const subject = controlSubjects.undeploy(home, id);
  const payload = StopWorkloadRequest.encode({ namespace: home });
  const until = (reply: Msg) => readStop(reply, subject).stopped;
  const { replies } = await gather(nc, subject, payload, {
    timeout,
    expected: listed.nodes,
    until,
    interim: isInterimReply,
    signal,
  });
  const answers = replies.map((reply) => readStop(reply, subject));
  const stopped = answers.find((answer) => answer.stopped)?.response;
  if (stopped !== undefined) return stopped;
  const error = answers.find((answer) => answer.error !== undefined)?.error;
  if (error !== undefined) throw error;
  if (replies.length >= listed.nodes) throw notFound(id, home);
  throw new ProtocolError(
    'NEX_NO_ANSWER',
    `Cannot stop workload "${id}": its node did not say within ${timeout} ms that it is stopped`,
    {
      hint: 'See whether it still runs: nex workload list',
    },
  );
}

function readStop(
  reply: Msg,
  subject: string,
): { stopped: boolean; response?: StopWorkloadResponse; error?: ProtocolError } {
  const error = readErrorReply(reply);
  if (error !== undefined) return { stopped: false, error };
  try {
    const response = StopWorkloadResponse.decode(reply.data, subject);
    return { stopped: response.stopped, response };
  } catch (cause) {
    if (cause instanceof ProtocolError) return { stopped: false, error: cause };
    throw cause;
  }
}

/** Nodes of Nex 0.4.1 do not say a namespace, and list to `system` only what is in `system`. */
function singleNamespace(id: string, workloads: readonly WorkloadSummary[]): string {
  const [first = SYSTEM_NAMESPACE, ...others] = new Set(
    workloads.map((workload) => workload.namespace ?? SYSTEM_NAMESPACE),
  );
  if (others.length === 0) return first;
  throw new ProtocolError(
    'NEX_WORKLOAD_AMBIGUOUS',
    `Cannot stop workload "${id}": it runs in the namespaces ${[first, ...others].join(', ')}`,
    { hint: 'Name its namespace with --namespace' },
  );
}

function notFound(id: string, namespace: string): ProtocolError {
  const where = namespace === SYSTEM_NAMESPACE ? '' : ` in namespace "${namespace}"`;
  return new ProtocolError('NEX_WORKLOAD_NOT_FOUND', `Cannot stop workload "${id}": no node runs it${where}`, {
    hint: 'See what runs: nex workload list',
  });
}
