import { headers, type Msg } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import {
  agentErrorReply,
  agentSubjects,
  AgentStartWorkloadRequest,
  AgentSummary,
  ANY,
  AuctionRequest,
  BidTerms,
  CloneWorkloadRequest,
  LameduckRequest,
  LameduckResponse,
  lastToken,
  ListWorkloadsRequest,
  parseGoDuration,
  ProtocolError,
  StartWorkloadRequest,
  StartWorkloadResponse,
  StopWorkloadRequest,
  StopWorkloadResponse,
  WorkloadSummaries,
} from '@nex-nix/protocol';
import type { Feeds } from './feeds.ts';
import type { Logger } from './logger.ts';
import type { EndpointHandler, MicroService, Reply } from './micro-service.ts';
import type { NexletDefinition } from './nexlet-definition.ts';
import { NexletError } from './nexlet-error.ts';
import { summariesFor } from './workload-summaries.ts';

/** A nexlet at a node: what its endpoints need. */
export interface NexletParts {
  readonly definition: NexletDefinition;
  readonly nodeId: string;
  /** Go nodes do not tell it. */
  readonly nexus: string | undefined;
  readonly agentId: string;
  readonly feeds: Feeds;
  readonly xkey: KeyPair;
  readonly logger: Logger;
  readonly summary: () => Promise<AgentSummary>;
  /** Something happened that the node should know of at once. */
  readonly changed: (state?: 'lameduck') => void;
}

/** Subscribes every endpoint of a nexlet. */
export function addNexletEndpoints(service: MicroService, parts: NexletParts): void {
  const { nodeId, nexus, agentId } = parts;
  const add = (name: string, subject: string, handler: EndpointHandler) => service.endpoint(name, subject, handler);
  add('StartWorkload', agentSubjects.startWorkload(nodeId, agentId, ANY), startWorkload(parts));
  add('StopWorkload', agentSubjects.stopWorkload(nodeId, ANY), stopWorkload(parts));
  add('GetWorkload', agentSubjects.getWorkload(nodeId, ANY), getWorkload(parts));
  add('QueryWorkloads', agentSubjects.queryWorkloads(nodeId), queryWorkloads(parts));
  add('PingAgent', agentSubjects.ping(nodeId, agentId), ping(parts));
  add('PingAllAgents', agentSubjects.pingAll(nodeId), ping(parts));
  add('SetLameduck', agentSubjects.lameduck(nodeId), setLameduck(parts));
  if (nexus !== undefined) add('WorkloadDiscovery', agentSubjects.pingWorkload(nexus, ANY), discoverWorkload(parts));
}

/** Subscribes what only nodes of this project ask; others grant no right to it. */
export function addBidEndpoint(service: MicroService, { definition, nodeId, agentId }: NexletParts): void {
  service.endpoint('BidTerms', agentSubjects.bid(nodeId, agentId), async (msg) => {
    const auction = AuctionRequest.decode(msg.data, msg.subject);
    return { data: BidTerms.encode((await definition.bid?.(auction)) ?? {}) };
  });
}

/** Starts one workload out of the request that a node sends, or had kept. */
export async function startFrom(
  { definition, feeds, xkey }: NexletParts,
  workloadId: string,
  { request, workload_creds: credentials }: AgentStartWorkloadRequest,
  existing: boolean,
): Promise<StartWorkloadResponse> {
  let runRequest: unknown;
  try {
    runRequest = JSON.parse(request.run_request);
  } catch (cause) {
    const message = `Cannot start workload "${request.name}": its run request is not JSON`;
    throw new NexletError('NEXLET_REQUEST_INVALID', message, { cause });
  }
  return definition.start({ workloadId, request, runRequest, credentials, existing, feeds, xkey });
}

function startWorkload(parts: NexletParts): EndpointHandler {
  return async (msg) => {
    const id = lastToken(msg.subject);
    let name = '';
    try {
      const start = AgentStartWorkloadRequest.decode(msg.data, msg.subject);
      name = start.request.name;
      return { data: StartWorkloadResponse.encode(await startFrom(parts, id, start, false)) };
    } catch (error) {
      return agentErrorReply(error, { id, name });
    } finally {
      parts.changed();
    }
  };
}

function stopWorkload(parts: NexletParts): EndpointHandler {
  const { definition } = parts;
  return async (msg) => {
    const id = lastToken(msg.subject);
    try {
      const { namespace } = StopWorkloadRequest.decode(msg.data, msg.subject);
      // A request names the namespace it acts in; an id of another one is as good as unknown.
      const owner = (await definition.get(id))?.namespace;
      const ours = owner === undefined || owner === namespace;
      if (!ours || !(await definition.stop(id, { namespace }))) return notStopped(id);
      parts.changed();
      const data = StopWorkloadResponse.encode({ id, message: '', stopped: true, workload_type: definition.type });
      return { data };
    } catch (error) {
      return agentErrorReply(error, {
        id,
        message: 'workload not found',
        stopped: false,
        workload_type: definition.type,
      });
    }
  };
}

/** Nex 0.4 nexlets answer an unknown id with an error that also is a message. */
function notStopped(id: string): Reply {
  const body = { id, message: 'workload not found', stopped: false, workload_type: '' };
  return { ...agentErrorReply(new Error('workload not found')), data: StopWorkloadResponse.encode(body) };
}

function getWorkload({ definition }: NexletParts): EndpointHandler {
  return async (msg) => {
    const request = await definition.get(lastToken(msg.subject), cloneTarget(msg));
    return request === undefined ? undefined : { data: StartWorkloadRequest.encode(request) };
  };
}

/** For whom a workload is asked for, where the request says it: nexlets of Nex 0.4 do not look at it. */
function cloneTarget(msg: Msg): { newTargetXkey?: string } {
  try {
    const { new_target_xkey: newTargetXkey } = CloneWorkloadRequest.decode(msg.data, msg.subject);
    return newTargetXkey === '' ? {} : { newTargetXkey };
  } catch (error) {
    if (error instanceof ProtocolError) return {};
    throw error;
  }
}

function queryWorkloads({ definition, nodeId }: NexletParts): EndpointHandler {
  return async (msg) => {
    const asked = ListWorkloadsRequest.decode(msg.data, msg.subject);
    const workloads = await definition.list(asked);
    return { data: WorkloadSummaries.encode(summariesFor(workloads, { ...asked, nodeId })) };
  };
}

function ping({ agentId, summary }: NexletParts): EndpointHandler {
  return async () => {
    const result = headers();
    result.set('agentId', agentId);
    return { data: AgentSummary.encode(await summary()), headers: result };
  };
}

function setLameduck({ definition, changed }: NexletParts): EndpointHandler {
  return async (msg) => {
    const { delay } = LameduckRequest.decode(msg.data, msg.subject);
    const milliseconds = parseGoDuration(delay);
    changed('lameduck');
    await definition.lameduck?.(milliseconds);
    return { data: LameduckResponse.encode({ success: true, message: '' }) };
  };
}

function discoverWorkload({ definition, nodeId }: NexletParts): EndpointHandler {
  return async (msg) => {
    const known = (await definition.get(lastToken(msg.subject))) !== undefined;
    return known ? { data: JSON.stringify({ node_id: nodeId }) } : undefined;
  };
}
