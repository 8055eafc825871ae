import { type Static, Type } from 'typebox';
import { AgentSummarySchema } from './control-messages.ts';
import { defineMessage } from './message.ts';
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
});
export const RegisterAgentResponse = defineMessage('RegisterAgentResponse', RegisterAgentResponseSchema);
export type RegisterAgentResponse = Static<typeof RegisterAgentResponseSchema>;

const AgentHeartbeatSchema = Type.Object({
  /** Opaque on the wire. Nexlets of this project send JSON text, `{ register_type, bid }`, and `bid` goes into the bids. */
  data: Type.String(),
  summary: AgentSummarySchema,
});
export const AgentHeartbeat = defineMessage('AgentHeartbeat', AgentHeartbeatSchema);
export type AgentHeartbeat = Static<typeof AgentHeartbeatSchema>;
