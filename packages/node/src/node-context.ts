import type { Logger, Reply } from '@nex-nix/nexlet';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import {
  type MessageType,
  type NodeErrorStatus,
  nodeErrorReply,
  ProtocolError,
  type RegisterAgentRequest,
  type Tags,
} from '@nex-nix/protocol';
import type { AgentGateway } from './agents/agent-gateway.ts';
import type { AgentRegistry } from './agents/agent-registry.ts';
import type { BidBook } from './bid-book.ts';
import type { Holder, Minter } from './credentials/minter.ts';
import type { NodeCounters } from './metrics/node-counters.ts';
import type { NodeFeed } from './node-feed.ts';
import type { DesiredWorkloads } from './state/desired-workloads.ts';

/** What a node is, and what its endpoints work with. */
export interface NodeContext {
  readonly nc: NatsConnection;
  readonly id: string;
  readonly xkey: string;
  readonly name: string;
  readonly nexus: string;
  readonly version: string;
  readonly startTime: Date;
  /** Changes when the node becomes lame duck. */
  readonly tags: Tags;
  state: 'starting' | 'running' | 'lameduck' | 'stopping';
  readonly registry: AgentRegistry;
  readonly agents: AgentGateway;
  readonly bids: BidBook;
  /** What the node is to run. */
  readonly desired: DesiredWorkloads;
  /** How many workloads all its nexlets may have; 0: as many as come. */
  readonly maxWorkloads: number;
  readonly minter: Minter;
  readonly feed: NodeFeed;
  readonly counters: NodeCounters;
  readonly logger: Logger;
  /** Who may register; see {@link NodeOptions.admit}. */
  admit(request: RegisterAgentRequest, agentId: string): boolean | Promise<boolean>;
  /** Enters lame duck mode and tells the nexlets; resolves with the time at which the node will end. */
  enterLameduck(delayMs: number): Promise<Date>;
  /** Whether the node runs a nexlet itself, and so knows of its end. */
  runsNexlet(agentId: string): boolean;
  /** To be called when a nexlet is gone: it is forgotten, and what it holds is taken back. Does nothing when it is unknown. */
  nexletEnded(agentId: string, reason: string): void;
  /** To be called when a nexlet is gone and will register again under its id. Does nothing when it is unknown. */
  nexletLost(agentId: string, reason: string): void;
  /** Takes back the credentials of a workload or nexlet that has ended, behind the scenes; where that fails, the log says so. */
  revoke(holder: Holder): void;
}

/** An error that is answered. `friendly` is the text of the reply's header, `cause` goes into its body. */
export class Refusal extends Error {
  readonly status: NodeErrorStatus;
  readonly friendly: string;

  constructor(status: NodeErrorStatus, friendly: string, options: { cause?: unknown; detail?: string } = {}) {
    const { cause, detail } = options;
    super(detail ?? (cause instanceof Error ? cause.message : friendly), cause === undefined ? undefined : { cause });
    this.name = 'Refusal';
    this.status = status;
    this.friendly = friendly;
  }
}

/** Answers what a handler threw, and logs it under the error id of the answer. */
export function failureReply(error: unknown, { endpoint, logger }: { endpoint: string; logger: Logger }): Reply {
  const refusal = error instanceof Refusal ? error : new Refusal(500, 'internal server error', { cause: error });
  const reply = nodeErrorReply(refusal.status, refusal.friendly, refusal.message);
  const log = refusal.status === 500 ? logger.error : logger.info;
  log.call(logger, { errId: reply.errorId, endpoint, err: error }, refusal.friendly);
  return reply;
}

/** Reads a request, or refuses it as `friendly`. */
export function readRequest<T>(type: MessageType<T>, msg: Msg, friendly: string): T {
  try {
    return type.decode(msg.data, msg.subject);
  } catch (cause) {
    if (cause instanceof ProtocolError) throw new Refusal(400, friendly, { cause });
    throw cause;
  }
}
