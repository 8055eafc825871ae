import type { Msg, NatsConnection } from '@nats-io/nats-core';
import {
  type LameduckResponse,
  LameduckRequest,
  LameduckResponse as LameduckReply,
  NodeInfoResponse,
  type NodeInfo,
  type NodePing,
  NodePingRequest,
  NodePingResponse,
} from './control-messages.ts';
import { readErrorReply } from './error-reply.ts';
import { gather, requestOne } from './gather.ts';
import { formatGoDuration } from './go-time.ts';
import { newId } from './ids.ts';
import type { MessageType } from './message.ts';
import { placeWorkload, type PlacedWorkload, type WorkloadToPlace } from './place-workload.ts';
import { ProtocolError } from './protocol-error.ts';
import type { Tags } from './shared-messages.ts';
import { stopWorkload } from './stop-workload.ts';
import { controlSubjects, SYSTEM_NAMESPACE, subjectToken } from './subjects.ts';
import {
  AuctionRequest,
  AuctionResponse,
  type Bid,
  ListWorkloadsRequest,
  StartWorkloadRequest,
  type StartWorkloadResponse,
  StartWorkloadResponse as StartReply,
  type StopWorkloadResponse,
  WorkloadSummaries,
  type WorkloadSummary,
} from './workload-messages.ts';

export interface NexClientOptions {
  /** Whose workloads the client deals with. Default `system`, which sees all. */
  namespace?: string;
  /** How long to wait for the first answer to a question to all nodes, in milliseconds. Default 2500: a Go node may take 2 s. */
  timeout?: number;
  /** How long to wait for one more answer after the last. Default 300 ms. */
  stall?: number;
}

export interface AskOptions {
  /** How many nodes will answer; saves the wait for stragglers. */
  expected?: number;
  timeout?: number;
  stall?: number;
  signal?: AbortSignal | undefined;
}

/** How long a node may take to start a workload (it asks its nexlet), in milliseconds. */
const DEPLOY_TIMEOUT = 60_000;
/** More bids than this are not waited for. */
const MAX_BIDS = 256;

/**
 * Asks Nex nodes, this project's or Go's, over a connection that stays the caller's.
 * Where many nodes answer, errors of single ones stand beside the results and do not spoil them.
 */
export class NexClient {
  readonly namespace: string;
  readonly #nc: NatsConnection;
  readonly #timeout: number;
  readonly #stall: number;

  /** @throws {ProtocolError} NEX_SUBJECT_INVALID */
  constructor(
    nc: NatsConnection,
    { namespace = SYSTEM_NAMESPACE, timeout = 2_500, stall = 300 }: NexClientOptions = {},
  ) {
    this.namespace = subjectToken(namespace, 'namespace');
    this.#nc = nc;
    this.#timeout = timeout;
    this.#stall = stall;
  }

  /** All nodes, or those that have all tags of `filter`. No node at all is an empty result. */
  async pingNodes({ filter = {}, ...ask }: AskOptions & { filter?: Tags } = {}): Promise<{
    nodes: NodePing[];
    errors: ProtocolError[];
  }> {
    const subject = controlSubjects.ping(SYSTEM_NAMESPACE);
    const { items, errors } = await this.#askAll(subject, NodePingRequest.encode({ filter }), NodePingResponse, ask);
    return { nodes: items, errors };
  }

  /** @throws {ProtocolError} NEX_NODE_NOT_FOUND */
  async nodeInfo(
    nodeId: string,
    options: { timeout?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<NodeInfo> {
    return this.#askNode(nodeId, {
      subject: controlSubjects.info(SYSTEM_NAMESPACE, nodeId),
      payload: '{}',
      type: NodeInfoResponse,
      ...options,
    });
  }

  /**
   * Makes a node take no more workloads and end after `delay` milliseconds.
   *
   * @throws {ProtocolError} NEX_NODE_NOT_FOUND: also when the node lacks one of the tags
   */
  async lameduck(
    nodeId: string,
    { delay, tag, ...options }: { delay: number; tag?: Tags; timeout?: number; signal?: AbortSignal },
  ): Promise<LameduckResponse> {
    const payload = LameduckRequest.encode({ delay: formatGoDuration(delay), ...(tag === undefined ? {} : { tag }) });
    return this.#askNode(nodeId, {
      subject: controlSubjects.lameduck(SYSTEM_NAMESPACE, nodeId),
      payload,
      type: LameduckReply,
      ...options,
    });
  }

  /** Asks all nodes who could run a workload of `type`. A bid holds for a few seconds and for one workload. */
  async auction({
    type,
    tags = {},
    namespace = this.namespace,
    ...ask
  }: AskOptions & { type: string; tags?: Tags; namespace?: string }): Promise<{
    bids: Bid[];
    errors: ProtocolError[];
    noResponders: boolean;
  }> {
    const payload = AuctionRequest.encode({ agent_type: type, auction_id: newId(), tags });
    const subject = controlSubjects.auction(namespace);
    const { items, errors, noResponders } = await this.#askAll(subject, payload, AuctionResponse, {
      max: MAX_BIDS,
      ...ask,
    });
    return { bids: items, errors, noResponders };
  }

  /**
   * Hands a workload to the node that made the bid.
   *
   * @throws {ProtocolError} NEX_NO_NODES; NEX_NO_ANSWER when the bid is used or too old; NEX_PEER_… what node or nexlet says
   */
  async deploy(
    bid: Bid,
    request: StartWorkloadRequest,
    options: { timeout?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<StartWorkloadResponse> {
    const { timeout = DEPLOY_TIMEOUT, signal } = options;
    const subject = controlSubjects.deploy(request.namespace, bid.bidder_id);
    const { reply, noResponders } = await requestOne(this.#nc, subject, StartWorkloadRequest.encode(request), {
      timeout,
      signal,
    });
    if (reply !== undefined) return readReply(StartReply, reply, subject);
    if (noResponders)
      throw new ProtocolError('NEX_NO_NODES', `Cannot deploy workload "${request.name}": no node listens`, {
        hint: 'Start one: nex node up',
      });
    throw new ProtocolError(
      'NEX_NO_ANSWER',
      `Cannot deploy workload "${request.name}": the node that bid for it does not answer`,
      {
        hint: 'A bid holds for a few seconds and for one workload; try again',
      },
    );
  }

  /**
   * Auction, choice of a bid, deploy. When nobody can run the workload, the error says why, within two seconds.
   *
   * @throws {ProtocolError} NEX_NO_NODES, NEX_NO_BIDS, NEX_REQUEST_INVALID; as {@link deploy}
   */
  async startWorkload(workload: WorkloadToPlace): Promise<PlacedWorkload> {
    return placeWorkload(this, workload);
  }

  /**
   * Stops a workload; resolves when the node says that it is stopped.
   *
   * @throws {ProtocolError} NEX_WORKLOAD_NOT_FOUND, NEX_WORKLOAD_AMBIGUOUS, NEX_NO_ANSWER; NEX_PEER_… what node or nexlet says
   */
  async stopWorkload(
    id: string,
    options: { namespace?: string; timeout?: number; signal?: AbortSignal } = {},
  ): Promise<StopWorkloadResponse> {
    return stopWorkload(this.#nc, this, id, options);
  }

  /** Workloads of a namespace; `filter` holds ids or names. `nodes` counts who answered. */
  async listWorkloads({
    filter = [],
    namespace = this.namespace,
    ...ask
  }: AskOptions & { filter?: string[]; namespace?: string } = {}): Promise<{
    workloads: WorkloadSummary[];
    errors: ProtocolError[];
    nodes: number;
  }> {
    const ping = new AbortController();
    // A ping counts the nodes, so that the list of a slow one (2 s on a Go node with a dead nexlet) is waited for.
    const expected =
      ask.expected ??
      this.#countNodes(AbortSignal.any([ping.signal, ...(ask.signal === undefined ? [] : [ask.signal])]));
    try {
      const payload = ListWorkloadsRequest.encode({ filter, namespace });
      const { items, errors } = await this.#askAll(
        controlSubjects.listWorkloads(namespace),
        payload,
        WorkloadSummaries,
        { ...ask, expected },
      );
      return { workloads: items.flat(), errors, nodes: items.length + errors.length };
    } finally {
      ping.abort();
      await expected;
    }
  }

  /** How many nodes there are; undefined when that cannot be asked, as in a namespace's own account. */
  async #countNodes(signal: AbortSignal): Promise<number | undefined> {
    try {
      const { nodes, errors } = await this.pingNodes({ signal });
      const count = nodes.length + errors.length;
      return count === 0 ? undefined : count;
    } catch (error) {
      if (signal.aborted || error instanceof ProtocolError) return undefined;
      throw error;
    }
  }

  async #askAll<T>(
    subject: string,
    payload: string,
    type: MessageType<T>,
    {
      timeout = this.#timeout,
      stall = this.#stall,
      max,
      ...options
    }: Omit<AskOptions, 'expected'> & { expected?: number | Promise<number | undefined>; max?: number },
  ): Promise<{ items: T[]; errors: ProtocolError[]; noResponders: boolean }> {
    let count = 0;
    const until = () => ++count === max;
    const { replies, noResponders } = await gather(this.#nc, subject, payload, { timeout, stall, until, ...options });
    const items: T[] = [];
    const errors: ProtocolError[] = [];
    for (const reply of replies) {
      try {
        items.push(readReply(type, reply, subject));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        errors.push(error);
      }
    }
    return { items, errors, noResponders };
  }

  async #askNode<T>(
    nodeId: string,
    {
      subject,
      payload,
      type,
      timeout = this.#timeout,
      signal,
    }: { subject: string; payload: string; type: MessageType<T>; timeout?: number; signal?: AbortSignal | undefined },
  ): Promise<T> {
    const { reply } = await requestOne(this.#nc, subject, payload, { timeout, signal });
    if (reply !== undefined) return readReply(type, reply, subject);
    throw new ProtocolError('NEX_NODE_NOT_FOUND', `Cannot reach node "${nodeId}": no node answers to that id`, {
      hint: 'See which nodes there are: nex node list',
    });
  }
}

/** The message in a reply. Throws the error when it is an error reply. */
export function readReply<T>(type: MessageType<T>, reply: Msg, subject: string): T {
  const error = readErrorReply(reply);
  if (error !== undefined) throw error;
  return type.decode(reply.data, subject);
}
