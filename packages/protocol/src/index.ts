export { formatLogId, LOG_ID_HEADER } from './feeds/log-ids.ts';
export type { LogId } from './feeds/log-ids.ts';
export {
  AgentHeartbeat,
  AgentIngressMessage,
  AgentStartWorkloadRequest,
  RegisterAgentRequest,
  RegisterAgentResponse,
  RegisterRemoteAgentRequest,
  RegisterRemoteAgentResponse,
  WorkloadLocation,
} from './messages/agent-messages.ts';
export {
  type AgentHealth,
  AgentSummary,
  LameduckRequest,
  LameduckResponse,
  type NodeAgentSummary,
  NodeHeartbeat,
  type NodeInfo,
  NodeInfoRequest,
  NodeInfoResponse,
  type NodePing,
  NodePingRequest,
  NodePingResponse,
  type NodeState,
  PlacementTags,
} from './messages/control-messages.ts';
export {
  AGENT_ERROR_STATUS,
  agentErrorReply,
  type ErrorReply,
  type NodeErrorStatus,
  nodeErrorReply,
  readErrorReply,
} from './wire/error-reply.ts';
export {
  type Feed,
  type FeedEvent,
  followEvents,
  type FollowEventsOptions,
  followLogs,
  type FollowLogsOptions,
  type LogEntry,
} from './feeds/live-feeds.ts';
export { LAST_LOGS_SUBJECTS, LastLogs, type LastLogsOptions } from './feeds/last-log.ts';
export { gather, type Gathered, type GatherOptions, requestOne } from './wire/gather.ts';
export { formatGoDuration, GO_ZERO_TIME, parseGoDuration, parseGoTime } from './wire/go-time.ts';
export { newId } from './wire/ids.ts';
export { stoppingReply } from './wire/interim-reply.ts';
export {
  FEED_STREAM,
  readEvents,
  type ReadEventsOptions,
  type ReadFeedOptions,
  readLogs,
  type ReadLogsOptions,
} from './feeds/read-feeds.ts';
export { defineMessage, type FieldIssue, type MessageType } from './wire/message.ts';
export { type NatsConnectionData, natsConnectionData } from './messages/nats-connection-data.ts';
export { readReply } from './client/ask.ts';
export type { ClonedWorkload, CloneWorkloadOptions } from './client/clone-workload.ts';
export type { GetWorkloadOptions, WorkloadDefinition } from './client/get-workload.ts';
export type { ListedWorkloads, ListWorkloadsOptions } from './client/list-workloads.ts';
export {
  type AskNodeOptions,
  type AskOptions,
  type AuctionOptions,
  type AuctionResult,
  NexClient,
  type NexClientOptions,
} from './client/nex-client.ts';
export type { StopWorkloadOptions } from './client/stop-workload.ts';
export {
  PLACEMENT_STRATEGIES,
  type PlacedWorkload,
  type PlacementStrategy,
  type WorkloadToPlace,
} from './placement/workload-to-place.ts';
export { ProtocolError, type ProtocolErrorCode } from './protocol-error.ts';
export { describeIssues, parseRunRequestSchema, type RunRequestSchema } from './messages/run-request.ts';
export {
  createXKey,
  EncryptedEnvironment,
  openEnvironment,
  sealEnvironment,
  seedOfXKey,
  xkeyOfSeed,
} from './messages/sealed-environment.ts';
export { type Lifecycle, LIFECYCLES, type Tags } from './messages/shared-messages.ts';
export {
  agentSubjects,
  ANY,
  controlSubjects,
  feedSubjects,
  inboxPrefix,
  lastToken,
  type LogStream,
  subjectScope,
  subjectToken,
  SYSTEM_NAMESPACE,
  type Token,
} from './wire/subjects.ts';
export {
  AuctionRequest,
  AuctionResponse,
  type Bid,
  BidTerms,
  NO_BID_HEADER,
  NoBid,
} from './messages/auction-messages.ts';
export {
  CloneWorkloadRequest,
  ListWorkloadsRequest,
  StartWorkloadRequest,
  StartWorkloadResponse,
  StopWorkloadRequest,
  StopWorkloadResponse,
  WorkloadSummaries,
  type WorkloadState,
  WorkloadSummary,
} from './messages/workload-messages.ts';
export {
  type EventBody,
  type EventName,
  EVENTS,
  eventSubject,
  type KnownEvent,
  knownEvent,
} from './messages/events.ts';
