import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import {
  agentSubjects,
  AgentStartWorkloadRequest,
  AuctionRequest,
  BidTerms,
  gather,
  LameduckRequest,
  ListWorkloadsRequest,
  type MessageType,
  ProtocolError,
  readReply,
  requestOne,
  StartWorkloadRequest,
  StopWorkloadRequest,
  StopWorkloadResponse,
  WorkloadSummaries,
  type WorkloadSummary,
} from '@nex-nix/protocol';
import type { Logger } from '@nex-nix/nexlet';
import type { Agent, AgentRegistry } from './agent-registry.ts';

/** How long nexlets may take to answer what they know, in milliseconds. Clients wait 2 s for a second node. */
const ASK_TIMEOUT = 1_200;
/** How long a nexlet may take to say what to bid. */
const BID_TIMEOUT = 300;
/** How long a nexlet may take to start or stop a workload. */
const WORK_TIMEOUT = 60_000;

export interface AgentGatewayOptions {
  nodeId: string;
  registry: AgentRegistry;
  logger: Logger;
}

/** Asks the nexlets of a node. Those that are taken for dead are not waited for. */
export class AgentGateway {
  readonly #nc: NatsConnection;
  readonly #nodeId: string;
  readonly #registry: AgentRegistry;
  readonly #logger: Logger;

  constructor(nc: NatsConnection, { nodeId, registry, logger }: AgentGatewayOptions) {
    this.#nc = nc;
    this.#nodeId = nodeId;
    this.#registry = registry;
    this.#logger = logger;
  }

  /** The nexlet's own reply, whatever it says; undefined when there is none within a minute. */
  async start(
    agent: Agent,
    workloadId: string,
    request: AgentStartWorkloadRequest,
    signal: AbortSignal,
  ): Promise<Msg | undefined> {
    const subject = agentSubjects.startWorkload(this.#nodeId, agent.id, workloadId);
    const payload = AgentStartWorkloadRequest.encode(request);
    return (await requestOne(this.#nc, subject, payload, { timeout: WORK_TIMEOUT, signal })).reply;
  }

  /**
   * The answer of the nexlet that stopped the workload; undefined when none has it. A nexlet that has it may take long,
   * which the others are not given. Throws what a nexlet says that cannot stop it.
   */
  async stop(workloadId: string, namespace: string, signal: AbortSignal): Promise<StopWorkloadResponse | undefined> {
    const subject = agentSubjects.stopWorkload(this.#nodeId, workloadId);
    const payload = StopWorkloadRequest.encode({ namespace });
    const answered = new AbortController();
    const unknown = new AbortController();
    const giveUp = this.#unlessListed({ namespace, filter: [workloadId] }, [signal, answered.signal], unknown);
    let stopped: StopWorkloadResponse | undefined;
    let failure: ProtocolError | undefined;
    const until = (reply: Msg) => {
      const answer = stopAnswer(reply, subject);
      if (answer instanceof ProtocolError) failure ??= answer;
      else if (answer?.stopped === true) stopped = answer;
      return stopped !== undefined;
    };
    try {
      const asked = AbortSignal.any([signal, unknown.signal]);
      await this.#askAll(subject, payload, { timeout: WORK_TIMEOUT, signal: asked, until });
    } catch (error) {
      if (!unknown.signal.aborted) throw error;
    } finally {
      answered.abort();
      await giveUp;
    }
    if (stopped === undefined && failure !== undefined) throw failure;
    return stopped;
  }

  /** Aborts `unknown` when no nexlet lists the workload, after the time that every nexlet has to answer. */
  async #unlessListed(request: ListWorkloadsRequest, signals: AbortSignal[], unknown: AbortController): Promise<void> {
    const signal = AbortSignal.any(signals);
    const deadline = Date.now() + ASK_TIMEOUT;
    try {
      const workloads = await this.list(request, signal);
      if (workloads.some((workload) => request.filter.includes(workload.id))) return;
      await delay(Math.max(0, deadline - Date.now()), undefined, { signal });
      unknown.abort();
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** What the nexlets list, in one. */
  async list(request: ListWorkloadsRequest, signal: AbortSignal): Promise<WorkloadSummary[]> {
    const subject = agentSubjects.queryWorkloads(this.#nodeId);
    const replies = await this.#askAll(subject, ListWorkloadsRequest.encode(request), { timeout: ASK_TIMEOUT, signal });
    return replies.flatMap((reply) => this.#read(WorkloadSummaries, reply, subject) ?? []);
  }

  /** The start request of a workload; undefined when no nexlet has it. */
  async get(workloadId: string, payload: string, signal: AbortSignal): Promise<StartWorkloadRequest | undefined> {
    if (this.#registry.alive().length === 0) return undefined;
    const subject = agentSubjects.getWorkload(this.#nodeId, workloadId);
    const { reply } = await requestOne(this.#nc, subject, payload, { timeout: ASK_TIMEOUT, signal });
    return reply === undefined ? undefined : this.#read(StartWorkloadRequest, reply, subject);
  }

  /**
   * What a nexlet wants in the bid for it. Nothing from nexlets of others: nobody listens there. Undefined when it
   * does not answer in time: it had better not get the workload.
   */
  async bidTerms(agent: Agent, auction: AuctionRequest): Promise<BidTerms | undefined> {
    const subject = agentSubjects.bid(this.#nodeId, agent.id);
    const payload = AuctionRequest.encode(auction);
    const { reply, noResponders } = await requestOne(this.#nc, subject, payload, { timeout: BID_TIMEOUT });
    if (noResponders) return {};
    return reply === undefined ? undefined : this.#read(BidTerms, reply, subject);
  }

  /** Tells the nexlets that the node ends; waits for their answers, but not long. */
  async lameduck(delay: string): Promise<void> {
    const subject = agentSubjects.lameduck(this.#nodeId);
    await this.#askAll(subject, LameduckRequest.encode({ delay }), { timeout: ASK_TIMEOUT });
  }

  async #askAll(
    subject: string,
    payload: string,
    options: { timeout: number; signal?: AbortSignal; until?: (msg: Msg) => boolean },
  ): Promise<Msg[]> {
    const expected = this.#registry.alive().length;
    if (expected === 0) return [];
    return (await gather(this.#nc, subject, payload, { ...options, expected })).replies;
  }

  /** The message in a reply; undefined, and a line in the log, when it is an error or cannot be read. */
  #read<T>(type: MessageType<T>, reply: Msg, subject: string): T | undefined {
    try {
      return readReply(type, reply, subject);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#logger.debug({ err: error, subject }, 'a nexlet answers with an error');
      return undefined;
    }
  }
}

/** A nexlet's answer to a stop; undefined when it does not have the workload, which Nex 0.4 nexlets say as an error. */
function stopAnswer(reply: Msg, subject: string): StopWorkloadResponse | ProtocolError | undefined {
  try {
    return readReply(StopWorkloadResponse, reply, subject);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return /^workload not found$/i.test(error.message) ? undefined : error;
  }
}
