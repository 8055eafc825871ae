export {
  AgentHeartbeat,
  AgentIngressMessage,
  AgentStartWorkloadRequest,
  RegisterAgentRequest,
  RegisterAgentResponse,
  RegisterRemoteAgentRequest,
  RegisterRemoteAgentResponse,
} from './agent-messages.ts';
export {
  type AgentHealth,
  AgentSummary,
  LameduckRequest,
  LameduckResponse,
  type NodeAgentSummary,
  NodeHeartbeat,
  type NodeInfo,
  NodeInfoResponse,
  type NodePing,
  NodePingRequest,
  NodePingResponse,
  type NodeState,
  PlacementTags,
} from './control-messages.ts';
export {
  AGENT_ERROR_STATUS,
  agentErrorReply,
  type ErrorReply,
  type NodeErrorStatus,
  nodeErrorReply,
  readErrorReply,
} from './error-reply.ts';
export {
  type Feed,
  type FeedEvent,
  followEvents,
  type FollowEventsOptions,
  followLogs,
  type FollowLogsOptions,
  type LogEntry,
} from './feeds.ts';
export { gather, type Gathered, type GatherOptions, requestOne } from './gather.ts';
export { formatGoDuration, GO_ZERO_TIME, parseGoDuration, parseGoTime } from './go-time.ts';
export { newId } from './ids.ts';
export { stoppingReply } from './interim-reply.ts';
export { FEED_STREAM, readLogs, type ReadLogsOptions } from './kept-logs.ts';
export { defineMessage, type FieldIssue, type MessageType } from './message.ts';
export { type NatsConnectionData, natsConnectionData } from './nats-connection-data.ts';
export { type AskOptions, NexClient, type NexClientOptions, readReply } from './nex-client.ts';
export type { PlacedWorkload, WorkloadToPlace } from './place-workload.ts';
export { ProtocolError, type ProtocolErrorCode } from './protocol-error.ts';
export { describeIssues, parseRunRequestSchema, type RunRequestSchema } from './run-request.ts';
export {
  createXKey,
  EncryptedEnvironment,
  openEnvironment,
  sealEnvironment,
  seedOfXKey,
  xkeyOfSeed,
} from './sealed-environment.ts';
export { type Lifecycle, LIFECYCLES, type Tags } from './shared-messages.ts';
export {
  agentSubjects,
  ANY,
  controlSubjects,
  feedSubjects,
  lastToken,
  type LogStream,
  subjectScope,
  subjectToken,
  SYSTEM_NAMESPACE,
  type Token,
} from './subjects.ts';
export {
  AuctionRequest,
  AuctionResponse,
  type Bid,
  BidTerms,
  CloneWorkloadRequest,
  ListWorkloadsRequest,
  NO_BID_HEADER,
  NoBid,
  StartWorkloadRequest,
  StartWorkloadResponse,
  StopWorkloadRequest,
  StopWorkloadResponse,
  WorkloadSummaries,
  type WorkloadState,
  type WorkloadSummary,
} from './workload-messages.ts';
