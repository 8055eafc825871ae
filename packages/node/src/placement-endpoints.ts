import { headers, type Msg } from '@nats-io/nats-core';
import type { EndpointHandler, MicroService, Reply } from '@nex-nix/nexlet';
import {
  ANY,
  AuctionRequest,
  AuctionResponse,
  type Bid,
  controlSubjects,
  describeIssues,
  lastToken,
  type NatsConnectionData,
  newId,
  NO_BID_HEADER,
  NoBid,
  StartWorkloadRequest,
} from '@nex-nix/protocol';
import type { Agent } from './agent-registry.ts';
import { checkNamespace } from './namespaces.ts';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';
import { hasTags } from './tags.ts';

/** Auctions and what follows from them. */
export function addPlacementEndpoints(service: MicroService, node: NodeContext): void {
  service.endpoint('AuctionRequest', controlSubjects.auction(ANY), auction(node));
  service.endpoint('AuctionDeployWorkload', controlSubjects.deploy(ANY, ANY), deploy(node));
}

/** Bids, or stays silent; or says why it does not bid, where that is asked for. */
function auction(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const request = readRequest(AuctionRequest, msg, 'failed to unmarshal auction request');
    const offer = await offerFor(node, request);
    if (typeof offer !== 'string') return { data: AuctionResponse.encode(offer) };
    if (request.explain !== true) return undefined;
    const marked = headers();
    marked.set(NO_BID_HEADER, 'true');
    return { data: NoBid.encode({ node_id: node.id, node_name: node.name, reason: offer }), headers: marked };
  };
}

/** The bid, or why there is none: a text that completes "the node …". */
async function offerFor(node: NodeContext, request: AuctionRequest): Promise<Bid | string> {
  if (node.state !== 'running') return `is ${node.state}`;
  const missing = Object.entries(request.tags).filter(([key, value]) => !hasTags(node.tags, { [key]: value }));
  if (missing.length > 0) return `lacks tag ${missing.map(([key, value]) => `${key}=${value}`).join(', ')}`;
  const agent = node.registry.available(request.agent_type);
  if (agent === undefined) return `has no healthy nexlet of type "${request.agent_type}" with room`;
  const { supported_lifecycles: lifecycles = [] } = agent.request;
  if (request.lifecycle !== undefined && !lifecycles.includes(request.lifecycle))
    return `runs no workload of lifecycle ${request.lifecycle}`;
  const terms = await node.agents.bidTerms(agent, request);
  if (terms === undefined) return `has a nexlet of type "${request.agent_type}" that does not answer`;
  const { refusal, ...extras } = terms;
  if (refusal !== undefined) return refusal;
  return {
    ...extras,
    bidder_id: node.bids.open({ agentId: agent.id }),
    start_request_schema: agent.request.start_request_schema,
    supported_lifecycles: lifecycles,
    xkey: agent.request.public_xkey,
    node_id: node.id,
    node_name: node.name,
    max_workloads: agent.request.max_workloads,
  };
}

/** Every node hears every deployment; only the one whose bid it is may answer, not even with an error. */
function deploy(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const bidId = lastToken(msg.subject);
    const bid = node.bids.peek(bidId);
    if (bid === undefined) return undefined;
    const request = readRequest(StartWorkloadRequest, msg, 'failed to unmarshal auction deploy workload request');
    checkNamespace(msg.subject, request.namespace);
    const agent = node.registry.get(bid.agentId);
    if (agent === undefined || agent.request.register_type !== request.workload_type) {
      throw new Refusal(404, 'workload type not found');
    }
    checkRequest(agent, request);
    if (!node.registry.isAvailable(agent)) {
      throw new Refusal(404, 'workload type not found', {
        detail: 'the nexlet that bid is full or not healthy any more',
      });
    }
    node.bids.take(bidId);
    const done = node.registry.countDeployment(agent);
    try {
      return await handOver(node, { agent, request, signal });
    } finally {
      done();
    }
  };
}

function checkRequest(agent: Agent, request: StartWorkloadRequest): void {
  let runRequest: unknown;
  try {
    runRequest = JSON.parse(request.run_request);
  } catch (cause) {
    throw new Refusal(400, 'failed to unmarshal start request', { cause, detail: 'run_request is not JSON' });
  }
  const issues = agent.schema.check(runRequest);
  if (issues.length > 0) throw new Refusal(400, 'failed to validate run request', { detail: describeIssues(issues) });
  const lifecycles = agent.request.supported_lifecycles ?? [];
  if (lifecycles.includes(request.workload_lifecycle)) return;
  throw new Refusal(400, 'failed to validate run request', {
    detail: `field "workload_lifecycle" must be one of ${JSON.stringify(lifecycles)}`,
  });
}

interface HandOver {
  agent: Agent;
  request: StartWorkloadRequest;
  signal: AbortSignal;
}

/** The nexlet's reply, as it is. */
async function handOver(node: NodeContext, { agent, request, signal }: HandOver): Promise<Reply> {
  const workloadId = newId();
  const credentials = await mintWorkload(node, request.namespace, workloadId);
  let reply: Msg | undefined;
  try {
    reply = await node.agents.start(agent, workloadId, { request, workload_creds: credentials }, signal);
  } catch (cause) {
    throw new Refusal(500, 'failed to publish start workload request', { cause });
  }
  if (reply === undefined) {
    const detail = `nexlet "${agent.request.name}" does not answer`;
    throw new Refusal(500, 'failed to publish start workload request', { detail });
  }
  node.logger.info(
    { workloadId, name: request.name, namespace: request.namespace, agentId: agent.id },
    'workload deployed',
  );
  return { data: reply.data, ...(reply.headers === undefined ? {} : { headers: reply.headers }) };
}

async function mintWorkload(node: NodeContext, namespace: string, workloadId: string): Promise<NatsConnectionData> {
  try {
    return await node.minter.workload({ namespace, workloadId });
  } catch (cause) {
    throw new Refusal(500, 'failed to mint workload nats connection', { cause });
  }
}
