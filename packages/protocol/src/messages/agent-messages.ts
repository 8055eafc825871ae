import { type Static, Type } from 'typebox';
import { AgentSummarySchema } from './control-messages.ts';
import { defineMessage } from '../wire/message.ts';
import { NatsConnectionDataSchema } from './nats-connection-data.ts';
import { LifecycleSchema } from './shared-messages.ts';
import { StartWorkloadRequestSchema } from './workload-messages.ts';

const RegisterAgentRequestSchema = Type.Object({
  description: Type.String({ description: 'What the nexlet is, for people' }),
  max_workloads: Type.Number({ description: 'How many workloads it takes; 0: as many as come' }),
  name: Type.String({ description: 'Name of the nexlet' }),
  public_xkey: Type.String({ description: 'Public curve key of the nexlet, X…' }),
  register_type: Type.String({ description: 'The workload type it serves' }),
  start_request_schema: Type.String({ description: 'JSON text: the JSON Schema of what it takes as run_request' }),
  version: Type.String({ description: 'Version of the nexlet' }),
  supported_lifecycles: Type.Optional(Type.Array(LifecycleSchema, { description: 'Lifecycles that it runs' })),
});
export const RegisterAgentRequest = defineMessage('RegisterAgentRequest', RegisterAgentRequestSchema);
export type RegisterAgentRequest = Static<typeof RegisterAgentRequestSchema>;

const AgentStartWorkloadRequestSchema = Type.Object({
  request: Type.With(StartWorkloadRequestSchema, { description: 'What the client asked for' }),
  workload_creds: Type.With(NatsConnectionDataSchema, { description: 'How the workload connects to NATS' }),
});
/** STARTWORKLOAD: what a node hands to a nexlet. */
export const AgentStartWorkloadRequest = defineMessage('AgentStartWorkloadRequest', AgentStartWorkloadRequestSchema);
export type AgentStartWorkloadRequest = Static<typeof AgentStartWorkloadRequestSchema>;

const RegisterAgentResponseSchema = Type.Object({
  connection_data: Type.With(NatsConnectionDataSchema, { description: 'How the nexlet connects from now on' }),
  existing_state: Type.Record(Type.String(), AgentStartWorkloadRequestSchema, {
    description: 'By workload id: what the nexlet should already be running',
  }),
  message: Type.String({ description: 'Why not, when it was refused' }),
  node_id: Type.String({ description: 'Id of the node' }),
  success: Type.Boolean({ description: 'Whether the nexlet is registered' }),
  asks_for_bids: Type.Optional(
    Type.Boolean({
      description:
        'Sent by nodes of this project only: the node will ask the nexlet what to bid (BID), and lets it serve that',
    }),
  ),
  renewals: Type.Optional(
    Type.Record(Type.String(), NatsConnectionDataSchema, {
      description:
        'Sent by nodes of this project only. By workload id: credentials for jobs that have begun, should the nexlet still run them; it must not start them',
    }),
  ),
});
export const RegisterAgentResponse = defineMessage('RegisterAgentResponse', RegisterAgentResponseSchema);
export type RegisterAgentResponse = Static<typeof RegisterAgentResponseSchema>;

const AgentHeartbeatSchema = Type.Object({
  data: Type.String({ description: 'Opaque on the wire. Nexlets of this project send JSON text, { register_type }' }),
  summary: Type.With(AgentSummarySchema, { description: 'How the nexlet is' }),
});
export const AgentHeartbeat = defineMessage('AgentHeartbeat', AgentHeartbeatSchema);
export type AgentHeartbeat = Static<typeof AgentHeartbeatSchema>;

/** RREGISTER: how a nexlet that no node has started asks a nexus for a node. */
export const RegisterRemoteAgentRequest = defineMessage('RegisterRemoteAgentRequest', Type.Object({}));

const RegisterRemoteAgentResponseSchema = Type.Object({
  assigned_agent_id: Type.String({ description: 'The id that the nexlet is to register under' }),
  respond_to: Type.String({ description: 'The id of the node to register with' }),
  registration_creds: Type.Optional(
    Type.With(NatsConnectionDataSchema, { description: 'What to register with; absent: the connection that asked' }),
  ),
});
export const RegisterRemoteAgentResponse = defineMessage(
  'RegisterRemoteAgentResponse',
  RegisterRemoteAgentResponseSchema,
);
export type RegisterRemoteAgentResponse = Static<typeof RegisterRemoteAgentResponseSchema>;

export const AgentIngressMessageSchema = Type.Object({
  command: Type.Enum(['add', 'remove'], {
    description: 'Whether the workload is to be reached from now on, or no more',
  }),
  upstream: Type.String({ description: 'ip:port; empty for remove' }),
  workload_id: Type.String({ description: 'Id of the workload' }),
});
/** Where a workload can be reached, for ingress proxies: `$NEX.FEED.<nexlet>.events.INGRESS`. */
export const AgentIngressMessage = defineMessage('AgentIngressMessage', AgentIngressMessageSchema);
export type AgentIngressMessage = Static<typeof AgentIngressMessageSchema>;

const WorkloadLocationSchema = Type.Object({
  node_id: Type.String({ description: 'The node whose nexlet has the workload' }),
});
/** PINGWORKLOAD: the answer of the nexlet that has the workload; the others are silent. */
export const WorkloadLocation = defineMessage('WorkloadLocation', WorkloadLocationSchema);
export type WorkloadLocation = Static<typeof WorkloadLocationSchema>;
