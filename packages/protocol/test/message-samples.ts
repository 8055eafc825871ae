// Every message of the wire as a Go peer sends it (`Appendix A` of the protocol's description, values invented).
import * as wire from '../src/index.ts';
import { EVENTS, type MessageType } from '../src/index.ts';

const creds = {
  conn_name: '',
  nats_servers: ['nats://127.0.0.1:4222'],
  nats_user_jwt: '',
  nats_user_name: '',
  nats_user_nkey: '',
  nats_user_password: '',
  nats_user_seed: '',
  tls_ca: '',
  tls_cert: '',
  tls_first: false,
  tls_key: '',
};
const agentSummary = {
  name: 'ts_exec',
  start_time: '2026-05-01T10:00:00Z',
  state: 'running',
  supported_lifecycles: 'service,job',
  type: 'ts',
  version: '1.0.0',
  workload_count: 0,
};
const start = {
  description: '',
  name: 'web',
  namespace: 'default',
  run_request: '{"uri":"file:///bin/web"}',
  tags: {},
  workload_lifecycle: 'service',
  workload_type: 'native',
};
const workload = { id: 'w22', namespace: 'default', workload_type: 'native' };

export interface Sample {
  readonly type: MessageType<unknown>;
  /** As a Go peer sends it, every optional key included. */
  readonly payload: Record<string, unknown>;
  readonly optional?: readonly string[];
  /** Null is no value of them: Go's own decoder refuses it. */
  readonly enums?: readonly string[];
}
const sample = <T>(type: MessageType<T>, payload: Record<string, unknown>, more: Partial<Sample> = {}): Sample => ({
  type,
  payload,
  ...more,
});

/** Every message that is an object. */
export const SAMPLES: readonly Sample[] = [
  sample(wire.NodePingRequest, { filter: null }),
  sample(
    wire.NodePingResponse,
    {
      agent_count: 1,
      node_id: 'NB',
      start_time: '2026-05-01T10:00:00.123Z',
      state: 'running',
      tags: { 'nex.arch': 'amd64', 'nex.lameduck': 'false', 'nex.nexus': 'nexus', 'nex.node': 'n1' },
      version: '0.4.1',
      xkey: 'XA',
    },
    { enums: ['state'] },
  ),
  sample(wire.NodeInfoRequest, {}),
  sample(
    wire.NodeInfoResponse,
    {
      node_agent_summaries: [
        {
          agent_health: 'healthy',
          agent_health_stoplight: '🟢',
          agent_id: 'k22',
          agent_last_heartbeat_time: '2026-05-01T10:00:05Z',
          agent_summary: agentSummary,
        },
      ],
      node_id: 'NB',
      tags: {},
      uptime: '5.2s',
      version: '0.4.1',
      xkey: 'XA',
    },
    { optional: ['node_agent_summaries'] },
  ),
  sample(wire.LameduckRequest, { delay: '1m0s', tag: { a: 'b' } }, { optional: ['tag'] }),
  sample(wire.LameduckResponse, {
    message: 'node entering lameduck mode, will shutdown at 2026-05-01 10:02:00',
    success: true,
  }),
  sample(wire.NodeHeartbeat, { registrations: 'k22 [native]' }),
  sample(wire.AgentSummary, agentSummary),
  sample(
    wire.AuctionRequest,
    {
      agent_type: 'native',
      auction_id: 'a22',
      tags: {},
      lifecycle: 'service',
      workload: { namespace: 'default', name: 'web' },
      needs: { memory: 1 },
      explain: true,
    },
    { optional: ['lifecycle', 'workload', 'needs', 'explain'] },
  ),
  sample(
    wire.AuctionResponse,
    {
      bidder_id: 'b22',
      start_request_schema: '{"type":"object"}',
      supported_lifecycles: ['job', 'service'],
      xkey: 'XB',
      node_id: 'NB',
      load: 0.5,
      missing_bytes: 1,
    },
    { optional: ['node_id', 'load', 'missing_bytes'] },
  ),
  sample(wire.NoBid, { node_id: 'NB', node_name: 'n1', reason: 'lacks tag a=b' }),
  sample(wire.BidTerms, { refusal: 'is full' }, { optional: ['refusal'] }),
  sample(
    wire.StartWorkloadRequest,
    { ...start, metadata: { any: [1] }, reference: 'r' },
    { optional: ['metadata', 'reference'], enums: ['workload_lifecycle'] },
  ),
  sample(wire.StartWorkloadResponse, { id: 'w22', name: 'web' }),
  sample(wire.StopWorkloadRequest, { namespace: 'default' }),
  sample(wire.StopWorkloadResponse, { id: 'w22', message: '', stopped: true, workload_type: 'native' }),
  sample(wire.CloneWorkloadRequest, { namespace: 'default', new_target_xkey: 'XC' }),
  sample(wire.ListWorkloadsRequest, { filter: null, namespace: 'system' }),
  sample(
    wire.WorkloadSummary,
    {
      id: 'w22',
      metadata: {},
      name: 'web',
      namespace: 'default',
      runtime: '--',
      start_time: '2026-05-01T10:01:00Z',
      tags: {},
      workload_lifecycle: 'service',
      workload_state: 'running',
      workload_type: 'native',
    },
    { optional: ['metadata', 'namespace'], enums: ['workload_state'] },
  ),
  sample(
    wire.RegisterAgentRequest,
    {
      description: '…',
      max_workloads: 0,
      name: 'ts_exec',
      public_xkey: 'XB',
      register_type: 'ts',
      start_request_schema: '{"type":"object"}',
      supported_lifecycles: ['service', 'job'],
      version: '1.0.0',
    },
    { optional: ['supported_lifecycles'] },
  ),
  sample(
    wire.RegisterAgentResponse,
    {
      connection_data: creds,
      existing_state: {},
      message: '',
      node_id: 'NB',
      success: true,
      asks_for_bids: true,
      renewals: { w22: creds },
    },
    { optional: ['asks_for_bids', 'renewals'] },
  ),
  sample(wire.RegisterRemoteAgentRequest, {}),
  sample(
    wire.RegisterRemoteAgentResponse,
    { assigned_agent_id: 'k22', registration_creds: creds, respond_to: 'NB' },
    { optional: ['registration_creds'] },
  ),
  sample(wire.AgentStartWorkloadRequest, { request: start, workload_creds: creds }, { enums: ['request'] }),
  sample(wire.AgentHeartbeat, { data: '{}', summary: agentSummary }),
  sample(
    wire.AgentIngressMessage,
    { command: 'add', upstream: '10.0.0.1:80', workload_id: 'w22' },
    { enums: ['command'] },
  ),
  sample(wire.WorkloadLocation, { node_id: 'NB' }),
  sample(EVENTS.NODESTARTED, {
    id: 'NB',
    name: 'n1',
    nexus: 'nexus',
    tags: {},
    type: 'io.synadia.nex.event.nexnode_started',
  }),
  sample(EVENTS.NODESTOPPED, { id: 'NB' }),
  sample(EVENTS.NODELAMEDUCKSET, { id: 'NB', time: '2026-05-01T10:00:00Z' }),
  sample(EVENTS.AGENTSTARTED, { id: 'k22', name: 'go_exec', register_type: 'native' }),
  sample(EVENTS.AGENTSTOPPED, { id: 'k22', name: '', reason: '', timestamp: '2026-05-01T10:00:00Z' }),
  sample(EVENTS.AGENTLAMEDUCKSET, { success: true }),
  sample(EVENTS.WORKLOADSTARTED, { ...workload, metadata: { a: 'b' } }, { optional: ['metadata'] }),
  sample(EVENTS.WORKLOADSTOPPED, { ...workload, error: { code: '1', message: 'exit 1' } }, { optional: ['error'] }),
  ...[EVENTS.WORKLOADRESTARTING, EVENTS.WORKLOADCRASHLOOP].map((event) =>
    sample(
      event,
      { ...workload, error: { code: '1', message: 'exit 1' }, restarts: 3, next_start: '2026-05-01T10:00:00Z' },
      { optional: ['error'] },
    ),
  ),
  sample(EVENTS.WORKLOADTRIGGERED, { duration: 1.5, id: 'w22', namespace: 'default' }),
  sample(EVENTS.INGRESS, { command: 'remove', upstream: '', workload_id: 'w22' }, { enums: ['command'] }),
];
