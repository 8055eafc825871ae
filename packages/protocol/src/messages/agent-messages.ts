import { type Static, Type } from 'typebox';
import { AgentSummarySchema } from './control-messages.ts';
import { defineMessage } from '../wire/message.ts';
import { NatsConnectionDataSchema } from './nats-connection-data.ts';
import { LifecycleSchema } from './shared-messages.ts';
import { StartWorkloadRequestSchema } from './workload-messages.ts';

const RegisterAgentRequestSchema = Type.Object({
  description: Type.String(),
  /** 0: as many as come. */
  max_workloads: Type.Number(),
  name: Type.String(),
  /** Public curve key of the nexlet, `X…`. */
  public_xkey: Type.String(),
  /** The workload type it serves. */
  register_type: Type.String(),
  /** JSON text. */
  start_request_schema: Type.String(),
  version: Type.String(),
  supported_lifecycles: Type.Optional(Type.Array(LifecycleSchema)),
});
export const RegisterAgentRequest = defineMessage('RegisterAgentRequest', RegisterAgentRequestSchema);
export type RegisterAgentRequest = Static<typeof RegisterAgentRequestSchema>;

const AgentStartWorkloadRequestSchema = Type.Object({
  request: StartWorkloadRequestSchema,
  workload_creds: NatsConnectionDataSchema,
});
/** STARTWORKLOAD: what a node hands to a nexlet. */
export const AgentStartWorkloadRequest = defineMessage('AgentStartWorkloadRequest', AgentStartWorkloadRequestSchema);
export type AgentStartWorkloadRequest = Static<typeof AgentStartWorkloadRequestSchema>;

const RegisterAgentResponseSchema = Type.Object({
  connection_data: NatsConnectionDataSchema,
  /** By workload id: what the nexlet should already be running. */
  existing_state: Type.Record(Type.String(), AgentStartWorkloadRequestSchema),
  message: Type.String(),
  node_id: Type.String(),
  success: Type.Boolean(),
  /** Sent by nodes of this project only: the node will ask the nexlet what to bid (BID), and lets it serve that. */
  asks_for_bids: Type.Optional(Type.Boolean()),
  /**
   * Sent by nodes of this project only. By workload id: credentials for jobs that have begun, should the nexlet still run
   * them; it must not start them.
   */
  renewals: Type.Optional(Type.Record(Type.String(), NatsConnectionDataSchema)),
});
export const RegisterAgentResponse = defineMessage('RegisterAgentResponse', RegisterAgentResponseSchema);
export type RegisterAgentResponse = Static<typeof RegisterAgentResponseSchema>;

const AgentHeartbeatSchema = Type.Object({
  /** Opaque on the wire. Nexlets of this project send JSON text, `{ register_type }`. */
  data: Type.String(),
  summary: AgentSummarySchema,
});
export const AgentHeartbeat = defineMessage('AgentHeartbeat', AgentHeartbeatSchema);
export type AgentHeartbeat = Static<typeof AgentHeartbeatSchema>;

/** RREGISTER: how a nexlet that no node has started asks a nexus for a node. */
export const RegisterRemoteAgentRequest = defineMessage('RegisterRemoteAgentRequest', Type.Object({}));

const RegisterRemoteAgentResponseSchema = Type.Object({
  assigned_agent_id: Type.String(),
  /** The id of the node to register with. */
  respond_to: Type.String(),
  /** What to register with; absent: the connection that asked. */
  registration_creds: Type.Optional(NatsConnectionDataSchema),
});
export const RegisterRemoteAgentResponse = defineMessage(
  'RegisterRemoteAgentResponse',
  RegisterRemoteAgentResponseSchema,
);
export type RegisterRemoteAgentResponse = Static<typeof RegisterRemoteAgentResponseSchema>;

export const AgentIngressMessageSchema = Type.Object({
  command: Type.Enum(['add', 'remove']),
  /** `ip:port`; empty for `remove`. */
  upstream: Type.String(),
  workload_id: Type.String(),
});
/** Where a workload can be reached, for ingress proxies: `$NEX.FEED.<nexlet>.events.INGRESS`. */
export const AgentIngressMessage = defineMessage('AgentIngressMessage', AgentIngressMessageSchema);
export type AgentIngressMessage = Static<typeof AgentIngressMessageSchema>;

const WorkloadLocationSchema = Type.Object({
  /** The node whose nexlet has the workload. */
  node_id: Type.String(),
});
/** PINGWORKLOAD: the answer of the nexlet that has the workload; the others are silent. */
export const WorkloadLocation = defineMessage('WorkloadLocation', WorkloadLocationSchema);
export type WorkloadLocation = Static<typeof WorkloadLocationSchema>;
