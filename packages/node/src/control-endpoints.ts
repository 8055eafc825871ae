import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  controlSubjects,
  formatGoDuration,
  LameduckRequest,
  LameduckResponse,
  NodeInfoResponse,
  NodePingRequest,
  NodePingResponse,
  parseGoDuration,
  PlacementTags,
  ProtocolError,
  SYSTEM_NAMESPACE,
} from '@nex-nix/protocol';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';
import { hasTags } from './tags.ts';

/** What a node tells about itself. Served on the namespace `system` only. */
export function addControlEndpoints(service: MicroService, node: NodeContext): void {
  const { id } = node;
  service.endpoint('PingPlacementTags', controlSubjects.placementTags(SYSTEM_NAMESPACE), async () => ({
    data: PlacementTags.encode(node.tags),
  }));
  service.endpoint('PingNexus', controlSubjects.ping(SYSTEM_NAMESPACE), pingNexus(node));
  service.endpoint('PingNode', controlSubjects.pingNode(SYSTEM_NAMESPACE, id), async () => ({ data: pingReply(node) }));
  service.endpoint('GetNodeInfo', controlSubjects.info(SYSTEM_NAMESPACE, id), async () => ({ data: infoReply(node) }));
  service.endpoint('SetLameduck', controlSubjects.lameduck(SYSTEM_NAMESPACE, id), setLameduck(node));
  service.endpoint('GetAgentIdByName', controlSubjects.agentId(SYSTEM_NAMESPACE, id), agentIdByName(node));
}

function pingNexus(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const { filter } = readRequest(NodePingRequest, msg, 'failed to unmarshal ping request');
    return hasTags(node.tags, filter) ? { data: pingReply(node) } : undefined;
  };
}

function pingReply({ id, registry, startTime, state, tags, version, xkey }: NodeContext): string {
  return NodePingResponse.encode({
    agent_count: registry.all().length,
    node_id: id,
    start_time: startTime.toISOString(),
    state,
    tags,
    version,
    xkey,
  });
}

function infoReply({ id, registry, startTime, tags, version, xkey }: NodeContext): string {
  const agents = registry.all().map((agent) => registry.describe(agent));
  return NodeInfoResponse.encode({
    node_id: id,
    tags,
    uptime: formatGoDuration(Date.now() - startTime.getTime()),
    version,
    xkey,
    ...(agents.length === 0 ? {} : { node_agent_summaries: agents }),
  });
}

function setLameduck(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const { delay, tag = {} } = readRequest(LameduckRequest, msg, 'failed to unmarshal lameduck request');
    const milliseconds = parseDelay(delay);
    if (!hasTags(node.tags, tag)) return undefined;
    const end = await node.enterLameduck(milliseconds);
    const message = `node entering lameduck mode, will shutdown at ${localTime(end)}`;
    return { data: LameduckResponse.encode({ success: true, message }) };
  };
}

function parseDelay(delay: string): number {
  const refusal = 'failed to parse lameduck delay';
  try {
    const milliseconds = parseGoDuration(delay);
    if (milliseconds >= 0) return milliseconds;
  } catch (cause) {
    if (cause instanceof ProtocolError) throw new Refusal(400, refusal, { cause });
    throw cause;
  }
  throw new Refusal(400, refusal, { detail: `the delay "${delay}" is negative` });
}

/** `2006-01-02 15:04:05`, in the zone of this machine. */
function localTime(time: Date): string {
  return time.toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'medium' });
}

/** Text in, text out: the id of the nexlet with that name. */
function agentIdByName({ registry }: NodeContext): EndpointHandler {
  return async (msg) => {
    const name = msg.string();
    if (name === '') throw new Refusal(400, 'agent name is required');
    const agent = registry.alive().find(({ request }) => request.name === name);
    return agent === undefined ? undefined : { data: agent.id };
  };
}
