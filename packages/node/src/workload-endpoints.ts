import type { Msg } from '@nats-io/nats-core';
import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  ANY,
  CloneWorkloadRequest,
  controlSubjects,
  lastToken,
  ListWorkloadsRequest,
  ProtocolError,
  StartWorkloadRequest,
  StopWorkloadRequest,
  StopWorkloadResponse,
  stoppingReply,
  subjectScope,
  SYSTEM_NAMESPACE,
  WorkloadSummaries,
} from '@nex-nix/protocol';
import { checkNamespace } from './namespaces.ts';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';
import type { DesiredWorkload } from './state/desired-workload.ts';

/**
 * How often a client hears that its workload is still stopping, in milliseconds: before the two seconds are over that Go
 * clients wait, and after the time in which nexlets say that they do not have it.
 */
const STOPPING_INTERVAL = 1_400;

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
    using _ = tellStopping(node, msg, id);
    // Before it is stopped: should this node end in between, the next one stops it.
    using stopping = await node.desired.stopping(id, namespace);
    const stopped = (await stopOnAgents(node, { id, namespace, signal })) ?? withoutNexlet(node, stopping.workload);
    if (stopped !== undefined) await node.desired.stopped(id, stopped.workload_type);
    if (stopped !== undefined) {
      node.revoke({ kind: 'workload', id });
      node.logger.info({ workloadId: id, namespace }, 'workload stopped');
    }
    const notFound = { id, message: 'workload not found', stopped: false, workload_type: '' };
    return { data: StopWorkloadResponse.encode(stopped ?? notFound) };
  };
}

/** The answer when no nexlet has a workload that was to run: it is not started any more, if nothing of it can be alive. */
function withoutNexlet(
  { desired }: NodeContext,
  wanted: DesiredWorkload | undefined,
): StopWorkloadResponse | undefined {
  if (wanted === undefined) return undefined;
  const { id, request } = wanted;
  if (!desired.isAway(wanted)) return { id, message: '', stopped: true, workload_type: request.workload_type };
  const detail = `the nexlet that has workload "${id}" is away; the workload is stopped as soon as it is back`;
  throw new Refusal(404, 'the nexlet of the workload is away', { detail });
}

/** Tells a client now and then that its workload is still stopping, until disposed of. */
function tellStopping({ logger }: NodeContext, msg: Msg, id: string): Disposable {
  const { data, headers } = stoppingReply(id);
  const timer = setInterval(() => {
    try {
      msg.respond(data, { headers });
    } catch (unsent) {
      logger.warn({ err: unsent, workloadId: id }, 'a reply could not be sent');
    }
  }, STOPPING_INTERVAL);
  return { [Symbol.dispose]: () => clearInterval(timer) };
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
    const workload = await getFromAgents(node, msg, { request, signal });
    if (workload === undefined) return undefined;
    if (caller !== SYSTEM_NAMESPACE && caller !== workload.namespace) return undefined;
    return { data: StartWorkloadRequest.encode(workload) };
  };
}

async function getFromAgents(
  { agents }: NodeContext,
  msg: Msg,
  { request, signal }: { request: Parameters<typeof CloneWorkloadRequest.encode>[0]; signal: AbortSignal },
): Promise<StartWorkloadRequest | undefined> {
  try {
    return await agents.get(lastToken(msg.subject), CloneWorkloadRequest.encode(request), signal);
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    throw new Refusal(500, 'failed to unmarshal workload definition from agent', { cause });
  }
}

function listWorkloads(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const request = readRequest(ListWorkloadsRequest, msg, 'failed to unmarshal ping request');
    checkNamespace(msg.subject, request.namespace);
    const listed = await node.agents.list(request, signal);
    const ids = new Set(listed.map(({ id }) => id));
    const missing = node.desired.missing(request).filter(({ id }) => !ids.has(id));
    return { data: WorkloadSummaries.encode([...listed, ...missing]) };
  };
}
