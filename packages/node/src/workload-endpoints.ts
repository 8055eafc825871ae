import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  ANY,
  CloneWorkloadRequest,
  controlSubjects,
  lastToken,
  ListWorkloadsRequest,
  StartWorkloadRequest,
  StopWorkloadRequest,
  StopWorkloadResponse,
  subjectScope,
  SYSTEM_NAMESPACE,
  WorkloadSummaries,
} from '@nex-nix/protocol';
import { checkNamespace } from './namespaces.ts';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';

/** What nodes know of running workloads. */
export function addWorkloadEndpoints(service: MicroService, node: NodeContext): void {
  service.endpoint('StopWorkload', controlSubjects.undeploy(ANY, ANY), undeploy(node));
  service.endpoint('CloneWorkload', controlSubjects.clone(ANY, ANY), clone(node));
  service.endpoint('NamespacePingRequest', controlSubjects.listWorkloads(ANY), listWorkloads(node));
}

/** Answers always: what is not here is "not found", which is no error. */
function undeploy(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const { namespace } = readRequest(StopWorkloadRequest, msg, 'failed to unmarshal stop workload request');
    checkNamespace(msg.subject, namespace);
    const id = lastToken(msg.subject);
    const stopped = await stopOnAgents(node, { id, namespace, signal });
    if (stopped !== undefined) node.logger.info({ workloadId: id, namespace }, 'workload stopped');
    const notFound = { id, message: 'workload not found', stopped: false, workload_type: '' };
    return { data: StopWorkloadResponse.encode(stopped ?? notFound) };
  };
}

interface Stop {
  id: string;
  namespace: string;
  signal: AbortSignal;
}

async function stopOnAgents({ agents }: NodeContext, stop: Stop): Promise<StopWorkloadResponse | undefined> {
  try {
    return await agents.stop(stop.id, stop.namespace, stop.signal);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Refusal(500, `failed to stop workload: ${reason}`, { cause });
  }
}

/** Silent when the workload is not here, or not the caller's. */
function clone(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const request = readRequest(CloneWorkloadRequest, msg, 'failed to unmarshal clone workload request');
    const caller = subjectScope(msg.subject);
    const workload = await node.agents.get(lastToken(msg.subject), CloneWorkloadRequest.encode(request), signal);
    if (workload === undefined) return undefined;
    if (caller !== SYSTEM_NAMESPACE && caller !== workload.namespace) return undefined;
    return { data: StartWorkloadRequest.encode(workload) };
  };
}

function listWorkloads(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const request = readRequest(ListWorkloadsRequest, msg, 'failed to unmarshal ping request');
    checkNamespace(msg.subject, request.namespace);
    return { data: WorkloadSummaries.encode(await node.agents.list(request, signal)) };
  };
}
