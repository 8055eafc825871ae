import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { TagMap } from './shared-messages.ts';

/** PING: which tags a node must have to answer. Empty: every node answers. */
export const NodePingRequest = defineMessage('NodePingRequest', Type.Object({ filter: TagMap }), ({ filter }) => ({
  filter: Object.keys(filter).length === 0 ? null : filter,
}));

const NodeStateSchema = Type.Enum(['starting', 'running', 'lameduck', 'stopping', 'error']);
export type NodeState = Static<typeof NodeStateSchema>;

const NodePingResponseSchema = Type.Object({
  agent_count: Type.Integer(),
  node_id: Type.String(),
  /** RFC 3339. */
  start_time: Type.String(),
  state: NodeStateSchema,
  tags: TagMap,
  version: Type.String(),
  /** Public curve key of the node, `X…`. */
  xkey: Type.String(),
});
export const NodePingResponse = defineMessage('NodePingResponse', NodePingResponseSchema);
/** A node as it answers a ping. */
export type NodePing = Static<typeof NodePingResponseSchema>;

/** PTAGS: a node's tags, bare. */
export const PlacementTags = defineMessage('PlacementTags', TagMap);

export const AgentSummarySchema = Type.Object({
  name: Type.String(),
  /** RFC 3339. */
  start_time: Type.String(),
  /** Free text; `running` is what makes a nexlet healthy. */
  state: Type.String(),
  /** Comma separated, e.g. `service,job`. */
  supported_lifecycles: Type.String(),
  type: Type.String(),
  version: Type.String(),
  workload_count: Type.Integer(),
});
export const AgentSummary = defineMessage('AgentSummary', AgentSummarySchema);
export type AgentSummary = Static<typeof AgentSummarySchema>;

const AgentHealthSchema = Type.Enum(['healthy', 'shutting down', 'degraded', 'offline', 'unknown']);
export type AgentHealth = Static<typeof AgentHealthSchema>;

const NodeAgentSummarySchema = Type.Object({
  agent_health: AgentHealthSchema,
  /** 🟢 healthy, 🟠 shutting down, 🟡 degraded, 🔴 offline, ⚪️ unknown. */
  agent_health_stoplight: Type.String(),
  agent_id: Type.String(),
  /** RFC 3339; the zero time when there was none yet. */
  agent_last_heartbeat_time: Type.String(),
  agent_summary: AgentSummarySchema,
});
export type NodeAgentSummary = Static<typeof NodeAgentSummarySchema>;

/** INFO: nothing is asked for, and bodies are not looked at. */
export const NodeInfoRequest = defineMessage('NodeInfoRequest', Type.Object({}));

const NodeInfoResponseSchema = Type.Object({
  node_id: Type.String(),
  tags: TagMap,
  /** A Go duration. */
  uptime: Type.String(),
  version: Type.String(),
  xkey: Type.String(),
  /** Absent when the node has no nexlets. */
  node_agent_summaries: Type.Optional(Type.Array(NodeAgentSummarySchema)),
});
export const NodeInfoResponse = defineMessage('NodeInfoResponse', NodeInfoResponseSchema);
/** A node and its nexlets. */
export type NodeInfo = Static<typeof NodeInfoResponseSchema>;

const LameduckRequestSchema = Type.Object({
  /** A Go duration: how long until the node is gone. */
  delay: Type.String(),
  /** Tags that the node must have to obey. */
  tag: Type.Optional(TagMap),
});
export const LameduckRequest = defineMessage('LameduckRequest', LameduckRequestSchema);

const LameduckResponseSchema = Type.Object({ message: Type.String(), success: Type.Boolean() });
export const LameduckResponse = defineMessage('LameduckResponse', LameduckResponseSchema);
export type LameduckResponse = Static<typeof LameduckResponseSchema>;

/** Heartbeat of a node: `<agent id> [<type>], …`. */
export const NodeHeartbeat = defineMessage('NodeHeartbeat', Type.Object({ registrations: Type.String() }));
