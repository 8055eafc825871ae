import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import {
  agentSubjects,
  AgentStartWorkloadRequest,
  AuctionRequest,
  BidTerms,
  gather,
  LameduckRequest,
  LameduckResponse,
  ListWorkloadsRequest,
  type MessageType,
  ProtocolError,
  readErrorReply,
  readReply,
  requestOne,
  StartWorkloadRequest,
  StopWorkloadRequest,
  StopWorkloadResponse,
  WorkloadSummaries,
  type WorkloadSummary,
} from '@nex-nix/protocol';
import type { Logger, NexletDefinition } from '@nex-nix/nexlet';
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
  /** Nexlets that have said what to bid at least once: they serve that. */
  readonly #bidders = new Set<string>();
  readonly #embedded = new Map<string, NexletDefinition>();

  constructor(nc: NatsConnection, { nodeId, registry, logger }: AgentGatewayOptions) {
    this.#nc = nc;
    this.#nodeId = nodeId;
    this.#registry = registry;
    this.#logger = logger;
  }

  /** From now on the nexlet of that id, which runs in this process, is asked directly what to bid. */
  embed(agentId: string, definition: NexletDefinition): void {
    this.#embedded.set(agentId, definition);
  }

  /** The nexlet's own reply, whatever it says; undefined when there is none within a minute, or nobody there. */
  async start(
    agent: Agent,
    workloadId: string,
    request: AgentStartWorkloadRequest,
    signal: AbortSignal,
  ): Promise<Msg | undefined> {
    const subject = agentSubjects.startWorkload(this.#nodeId, agent.id, workloadId);
    const payload = AgentStartWorkloadRequest.encode(request);
    const { reply, noResponders } = await requestOne(this.#nc, subject, payload, { timeout: WORK_TIMEOUT, signal });
    if (noResponders) this.#registry.lost(agent);
    return reply;
  }

  /**
   * The answer of the nexlet that stopped the workload; undefined when none has it. A nexlet that has it may take long,
   * which the others are not given. Throws what a nexlet says that cannot stop it; garbage is nobody's answer.
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
      const answer = this.#stopAnswer(reply, subject);
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

  /**
   * The start request of a workload; undefined when no nexlet has it.
   *
   * @throws {ProtocolError} what was answered is not one, and no other nexlet has it
   */
  async get(workloadId: string, payload: string, signal: AbortSignal): Promise<StartWorkloadRequest | undefined> {
    const subject = agentSubjects.getWorkload(this.#nodeId, workloadId);
    let found: StartWorkloadRequest | undefined;
    let garbage: ProtocolError | undefined;
    // Those that do not have it stay silent, so the first good answer is the end.
    const until = (reply: Msg) => {
      try {
        if (readErrorReply(reply) === undefined) found ??= StartWorkloadRequest.decode(reply.data, subject);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        garbage = error;
      }
      return found !== undefined;
    };
    await this.#askAll(subject, payload, { timeout: ASK_TIMEOUT, signal, until });
    if (found === undefined && garbage !== undefined) throw garbage;
    return found;
  }

  /**
   * What a nexlet wants in the bid for it. Nothing from nexlets of others: nobody listens there. Undefined when it
   * does not answer in time: it had better not get the workload.
   */
  async bidTerms(agent: Agent, auction: AuctionRequest): Promise<BidTerms | undefined> {
    const embedded = this.#embedded.get(agent.id);
    return embedded === undefined ? this.#requestTerms(agent, auction) : this.#askDirectly(embedded, auction);
  }

  /** Asks a nexlet of this process without a detour over the server: an auction asks every node. */
  async #askDirectly(definition: NexletDefinition, auction: AuctionRequest): Promise<BidTerms | undefined> {
    if (definition.bid === undefined) return {};
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), BID_TIMEOUT);
    try {
      return await Promise.race([definition.bid(auction), late.promise]);
    } catch (error) {
      this.#logger.warn({ err: error, nexlet: definition.name }, 'a nexlet does not say what to bid');
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  async #requestTerms(agent: Agent, auction: AuctionRequest): Promise<BidTerms | undefined> {
    const subject = agentSubjects.bid(this.#nodeId, agent.id);
    const payload = AuctionRequest.encode(auction);
    const { reply, noResponders } = await requestOne(this.#nc, subject, payload, { timeout: BID_TIMEOUT });
    if (noResponders) return this.#bidders.has(agent.id) ? undefined : {};
    if (reply === undefined) return undefined;
    const terms = this.#read(BidTerms, reply, subject);
    if (terms !== undefined) this.#bidders.add(agent.id);
    return terms;
  }

  /** Whether anybody listens where a nexlet does. Undefined: it listens, but does not answer. */
  async isThere(agent: Agent, signal: AbortSignal): Promise<boolean | undefined> {
    const subject = agentSubjects.ping(this.#nodeId, agent.id);
    const { reply, noResponders } = await requestOne(this.#nc, subject, '{}', { timeout: ASK_TIMEOUT, signal });
    if (noResponders) return false;
    return reply === undefined ? undefined : true;
  }

  /** Tells the nexlets that the node ends; waits for their answers, but not long. Whether each one obeys. */
  async lameduck(delay: string): Promise<boolean[]> {
    const subject = agentSubjects.lameduck(this.#nodeId);
    const replies = await this.#askAll(subject, LameduckRequest.encode({ delay }), { timeout: ASK_TIMEOUT });
    return replies.map((reply) => this.#read(LameduckResponse, reply, subject)?.success ?? false);
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
      this.#logger.debug({ err: error, subject }, 'a nexlet answers with an error, or garbage');
      return undefined;
    }
  }

  /** A nexlet's answer to a stop; undefined when it does not have the workload, which Nex 0.4 nexlets say as an error. */
  #stopAnswer(reply: Msg, subject: string): StopWorkloadResponse | ProtocolError | undefined {
    const error = readErrorReply(reply);
    if (error !== undefined) return /^workload not found$/i.test(error.message) ? undefined : error;
    return this.#read(StopWorkloadResponse, reply, subject);
  }
}
