import { headers, type Msg } from '@nats-io/nats-core';
import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  ANY,
  AuctionRequest,
  AuctionResponse,
  type Bid,
  type BidTerms,
  controlSubjects,
  describeIssues,
  lastToken,
  type Lifecycle,
  type NatsConnectionData,
  newId,
  NO_BID_HEADER,
  NoBid,
  readErrorReply,
  StartWorkloadRequest,
} from '@nex-nix/protocol';
import type { Agent } from './agents/agent-registry.ts';
import type { OpenBid } from './bid-book.ts';
import { machineFacts } from './machine.ts';
import { checkNamespace } from './namespaces.ts';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';
import { NodeError } from './node-error.ts';
import { hasTags } from './tags.ts';

/** How many nexlets of one type are asked what to bid. */
const MAX_ASKED = 3;

/** Auctions and what follows from them. */
export function addPlacementEndpoints(service: MicroService, node: NodeContext): void {
  service.endpoint('AuctionRequest', controlSubjects.auction(ANY), auction(node));
  service.endpoint('AuctionDeployWorkload', controlSubjects.deploy(ANY, ANY), deploy(node));
}

/** Bids, or stays silent; or says why it does not bid, where that is asked for. */
function auction(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const request = readRequest(AuctionRequest, msg, 'failed to unmarshal auction request');
    node.counters.auctions++;
    const offer = await offerFor(node, request);
    if (typeof offer !== 'string') {
      node.counters.bids++;
      return { data: AuctionResponse.encode(offer) };
    }
    if (request.explain !== true) return undefined;
    const marked = headers();
    marked.set(NO_BID_HEADER, 'true');
    return { data: NoBid.encode({ node_id: node.id, node_name: node.name, reason: offer }), headers: marked };
  };
}

/** The bid, or why there is none: a text that completes "the node …". */
async function offerFor(node: NodeContext, request: AuctionRequest): Promise<Bid | string> {
  const { agent_type: type, lifecycle } = request;
  if (node.state !== 'running') return node.state === 'lameduck' ? 'is a lame duck' : `is ${node.state}`;
  const missing = Object.entries(request.tags).filter(([key, value]) => !hasTags(node.tags, { [key]: value }));
  if (missing.length > 0) return `lacks tag ${missing.map(([key, value]) => `${key}=${value}`).join(', ')}`;
  if (!hasRoom(node)) return `is full: ${node.registry.workloads} of ${node.maxWorkloads} workloads`;
  const agents = node.registry.available(type);
  if (agents.length === 0) return node.registry.whyNone(type);
  const able = agents.filter((agent) => lifecycle === undefined || lifecyclesOf(agent).includes(lifecycle));
  if (able.length === 0) return `has no nexlet of type "${type}" for the lifecycle ${lifecycle}`;
  return bestOffer(node, { agents: able, request });
}

interface Candidates {
  /** The one to ask first comes first. */
  agents: readonly Agent[];
  request: AuctionRequest;
}

/** The bid for the first nexlet that wants the workload; or why the first one does not. */
async function bestOffer(node: NodeContext, { agents, request }: Candidates): Promise<Bid | string> {
  const asked = await Promise.all(
    agents.slice(0, MAX_ASKED).map(async (agent) => ({ agent, terms: await node.agents.bidTerms(agent, request) })),
  );
  for (const { agent, terms } of asked) {
    if (terms !== undefined && terms.refusal === undefined) return bidFor(node, agent, terms);
  }
  const refusal = asked.find(({ terms }) => terms?.refusal !== undefined)?.terms?.refusal;
  return refusal ?? `has a nexlet of type "${request.agent_type}" that does not answer`;
}

function bidFor(node: NodeContext, agent: Agent, terms: BidTerms): Bid {
  return {
    ...machineFacts(),
    workloads: node.registry.workloadsOf(agent),
    ...terms,
    bidder_id: node.bids.open({ agentId: agent.id }),
    start_request_schema: agent.request.start_request_schema,
    supported_lifecycles: lifecyclesOf(agent),
    xkey: agent.request.public_xkey,
    node_id: node.id,
    node_name: node.name,
    max_workloads: tighter(agent.request.max_workloads, node.maxWorkloads),
  };
}

/** The smaller of two limits, where 0 stands for none. */
function tighter(one: number, other: number): number {
  return one > 0 && other > 0 ? Math.min(one, other) : Math.max(one, other);
}

function lifecyclesOf(agent: Agent): Lifecycle[] {
  return agent.request.supported_lifecycles ?? [];
}

function hasRoom({ maxWorkloads, registry }: NodeContext): boolean {
  return maxWorkloads <= 0 || registry.workloads < maxWorkloads;
}

/** Every node hears every deployment; only the one whose bid it is may answer, not even with an error. */
function deploy(node: NodeContext): EndpointHandler {
  return async (msg, signal) => {
    const bid = node.bids.peek(lastToken(msg.subject));
    if (bid === undefined) return undefined;
    node.counters.deployments++;
    let started = false;
    try {
      const reply = await deployBy(node, bid, { msg, signal });
      started = readErrorReply(reply) === undefined;
      return { data: reply.data, ...(reply.headers === undefined ? {} : { headers: reply.headers }) };
    } finally {
      if (!started) node.counters.deploymentFailures++;
    }
  };
}

/** The nexlet's reply to the deployment of what it bid for. */
async function deployBy(
  node: NodeContext,
  bid: OpenBid,
  { msg, signal }: { msg: Msg; signal: AbortSignal },
): Promise<Msg> {
  const request = readRequest(StartWorkloadRequest, msg, 'failed to unmarshal auction deploy workload request');
  checkNamespace(msg.subject, request.namespace);
  const agent = node.registry.get(bid.agentId);
  if (agent === undefined || agent.request.register_type !== request.workload_type) {
    throw new Refusal(404, 'workload type not found');
  }
  checkRequest(agent, request);
  if (!hasRoom(node) || !node.registry.isAvailable(agent)) {
    throw new Refusal(404, 'workload type not found', {
      detail: 'the node or nexlet that bid is full, or not healthy any more',
    });
  }
  node.bids.take(lastToken(msg.subject));
  const done = node.registry.countDeployment(agent);
  let started = false;
  try {
    const reply = await handOver(node, { agent, request, signal });
    started = readErrorReply(reply) === undefined;
    return reply;
  } finally {
    done(started);
  }
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
  const lifecycles = lifecyclesOf(agent);
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
async function handOver(node: NodeContext, { agent, request, signal }: HandOver): Promise<Msg> {
  const workloadId = newId();
  const credentials = await mintWorkload(node, request, workloadId);
  let reply: Msg | undefined;
  try {
    reply = await node.desired.place(workloadId, { agent, request }, () =>
      node.agents.start(agent, workloadId, { request, workload_creds: credentials }, signal),
    );
  } catch (cause) {
    if (cause instanceof NodeError) throw new Refusal(500, cause.message, { cause });
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
  return reply;
}

async function mintWorkload(
  node: NodeContext,
  { namespace, name }: StartWorkloadRequest,
  workloadId: string,
): Promise<NatsConnectionData> {
  try {
    return await node.minter.workload({ namespace, name, workloadId });
  } catch (cause) {
    if (cause instanceof NodeError && cause.code === 'NODE_WORKLOAD_NAME_INVALID') {
      throw new Refusal(400, 'failed to mint workload nats connection', { cause });
    }
    throw new Refusal(500, 'failed to mint workload nats connection', { cause });
  }
}
