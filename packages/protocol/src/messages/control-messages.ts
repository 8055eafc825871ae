import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { TagMap } from './shared-messages.ts';

/** PING: which tags a node must have to answer. Empty: every node answers. */
export const NodePingRequest = defineMessage(
  'NodePingRequest',
  Type.Object({
    filter: Type.With(TagMap, { description: 'Tags that a node must have to answer; null: every node answers' }),
  }),
  ({ filter }) => ({
    filter: Object.keys(filter).length === 0 ? null : filter,
  }),
);

const NodeStateSchema = Type.Enum(['starting', 'running', 'lameduck', 'stopping', 'error']);
export type NodeState = Static<typeof NodeStateSchema>;

const NodePingResponseSchema = Type.Object({
  agent_count: Type.Integer({ description: 'How many nexlets it has' }),
  node_id: Type.String({ description: 'Id of the node' }),
  start_time: Type.String({ description: 'RFC 3339' }),
  state: Type.With(NodeStateSchema, { description: 'What it does' }),
  tags: Type.With(TagMap, { description: 'Tags of the node' }),
  version: Type.String({ description: 'Version of the node' }),
  xkey: Type.String({ description: 'Public curve key of the node, X…' }),
});
export const NodePingResponse = defineMessage('NodePingResponse', NodePingResponseSchema);
/** A node as it answers a ping. */
export type NodePing = Static<typeof NodePingResponseSchema>;

/** PTAGS: a node's tags, bare. */
export const PlacementTags = defineMessage('PlacementTags', TagMap);

export const AgentSummarySchema = Type.Object({
  name: Type.String({ description: 'Name of the nexlet' }),
  start_time: Type.String({ description: 'RFC 3339' }),
  state: Type.String({ description: 'Free text; running is what makes a nexlet healthy' }),
  supported_lifecycles: Type.String({ description: 'Comma separated, e.g. service,job' }),
  type: Type.String({ description: 'The workload type it serves' }),
  version: Type.String({ description: 'Version of the nexlet' }),
  workload_count: Type.Integer({ description: 'How many workloads it has' }),
});
export const AgentSummary = defineMessage('AgentSummary', AgentSummarySchema);
export type AgentSummary = Static<typeof AgentSummarySchema>;

const AgentHealthSchema = Type.Enum(['healthy', 'shutting down', 'degraded', 'offline', 'unknown']);
export type AgentHealth = Static<typeof AgentHealthSchema>;

const NodeAgentSummarySchema = Type.Object({
  agent_health: Type.With(AgentHealthSchema, { description: 'How it is' }),
  agent_health_stoplight: Type.String({
    description: '🟢 healthy, 🟠 shutting down, 🟡 degraded, 🔴 offline, ⚪️ unknown',
  }),
  agent_id: Type.String({ description: 'Id of the nexlet' }),
  agent_last_heartbeat_time: Type.String({ description: 'RFC 3339; the zero time when there was none yet' }),
  agent_summary: Type.With(AgentSummarySchema, { description: 'What it says of itself' }),
});
export type NodeAgentSummary = Static<typeof NodeAgentSummarySchema>;

/** INFO: nothing is asked for, and bodies are not looked at. */
export const NodeInfoRequest = defineMessage('NodeInfoRequest', Type.Object({}));

const NodeInfoResponseSchema = Type.Object({
  node_id: Type.String({ description: 'Id of the node' }),
  tags: Type.With(TagMap, { description: 'Tags of the node' }),
  uptime: Type.String({ description: 'A Go duration' }),
  version: Type.String({ description: 'Version of the node' }),
  xkey: Type.String({ description: 'Public curve key of the node, X…' }),
  node_agent_summaries: Type.Optional(
    Type.Array(NodeAgentSummarySchema, { description: 'Absent when the node has no nexlets' }),
  ),
});
export const NodeInfoResponse = defineMessage('NodeInfoResponse', NodeInfoResponseSchema);
/** A node and its nexlets. */
export type NodeInfo = Static<typeof NodeInfoResponseSchema>;

const LameduckRequestSchema = Type.Object({
  delay: Type.String({ description: 'A Go duration: how long until the node is gone' }),
  tag: Type.Optional(Type.With(TagMap, { description: 'Tags that the node must have to obey' })),
});
export const LameduckRequest = defineMessage('LameduckRequest', LameduckRequestSchema);

const LameduckResponseSchema = Type.Object({
  message: Type.String({ description: 'Why not, or what happens' }),
  success: Type.Boolean({ description: 'Whether it is one now' }),
});
export const LameduckResponse = defineMessage('LameduckResponse', LameduckResponseSchema);
export type LameduckResponse = Static<typeof LameduckResponseSchema>;

/** Heartbeat of a node: `<agent id> [<type>], …`. */
export const NodeHeartbeat = defineMessage(
  'NodeHeartbeat',
  Type.Object({ registrations: Type.String({ description: 'Its nexlets: <nexlet id> [<type>], …' }) }),
);
