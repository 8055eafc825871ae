import type { NatsConnection } from '@nats-io/nats-core';
import { AuctionRequest, AuctionResponse, type Bid, NO_BID_HEADER, NoBid } from '../messages/auction-messages.ts';
import {
  type LameduckResponse,
  LameduckRequest,
  LameduckResponse as LameduckReply,
  type NodeInfo,
  NodeInfoRequest,
  NodeInfoResponse,
  type NodePing,
  NodePingRequest,
  NodePingResponse,
  PlacementTags,
} from '../messages/control-messages.ts';
import type { Lifecycle, Tags } from '../messages/shared-messages.ts';
import type {
  StartWorkloadRequest,
  StartWorkloadResponse,
  StopWorkloadResponse,
} from '../messages/workload-messages.ts';
import { placeWorkload } from '../placement/place-workload.ts';
import type { PlacedWorkload, WorkloadToPlace } from '../placement/workload-to-place.ts';
import { ProtocolError } from '../protocol-error.ts';
import { readErrorReply } from '../wire/error-reply.ts';
import { gather, requestOne } from '../wire/gather.ts';
import { formatGoDuration } from '../wire/go-time.ts';
import { newId } from '../wire/ids.ts';
import { controlSubjects, SYSTEM_NAMESPACE, subjectToken } from '../wire/subjects.ts';
import { askAll, type Question, readReplies, readReply } from './ask.ts';
import { type ClonedWorkload, cloneWorkload, type CloneWorkloadOptions } from './clone-workload.ts';
import { type DeployOptions, deployTo } from './deploy.ts';
import { getWorkload, type GetWorkloadOptions, type WorkloadDefinition } from './get-workload.ts';
import { type ListedWorkloads, listWorkloads, type ListWorkloadsOptions } from './list-workloads.ts';
import { stopWorkload, type StopWorkloadOptions } from './stop-workload.ts';

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

/** How to ask a single node. */
export interface AskNodeOptions {
  timeout?: number;
  signal?: AbortSignal | undefined;
}

/** What is auctioned. Go nodes look at type and tags only. */
export interface AuctionOptions extends AskOptions {
  type: string;
  tags?: Tags;
  namespace?: string;
  lifecycle?: Lifecycle;
  /** Which workload it will be: bids say how many of its kind are there already. */
  workload?: { namespace: string; name: string };
  needs?: Readonly<Record<string, unknown>> | undefined;
  /** Nodes of this project that do not bid say why. */
  explain?: boolean;
}

export interface AuctionResult {
  readonly bids: Bid[];
  /** Why nodes did not bid, where that was asked for. */
  readonly noBids: NoBid[];
  readonly errors: ProtocolError[];
  /** Nobody listens for auctions at all. */
  readonly noResponders: boolean;
}

/** More bids than this are not waited for. */
const MAX_BIDS = 256;

/**
 * Asks Nex nodes, this project's or Go's, over a connection that stays the caller's.
 * Where many nodes answer, errors of single ones stand beside the results and do not spoil them.
 */
export class NexClient {
  readonly namespace: string;
  /** @internal */
  readonly timeout: number;
  /** @internal */
  readonly stall: number;
  readonly #nc: NatsConnection;

  /** @throws {ProtocolError} NEX_SUBJECT_INVALID */
  constructor(
    nc: NatsConnection,
    { namespace = SYSTEM_NAMESPACE, timeout = 2_500, stall = 300 }: NexClientOptions = {},
  ) {
    this.namespace = subjectToken(namespace, 'namespace');
    this.#nc = nc;
    this.timeout = timeout;
    this.stall = stall;
  }

  /** All nodes, or those that have all tags of `filter`. No node at all is an empty result. */
  async pingNodes({ filter = {}, ...ask }: AskOptions & { filter?: Tags } = {}): Promise<{
    nodes: NodePing[];
    errors: ProtocolError[];
  }> {
    const subject = controlSubjects.ping(SYSTEM_NAMESPACE);
    const question = { subject, payload: NodePingRequest.encode({ filter }), type: NodePingResponse };
    const { items, errors } = await askAll(this.#nc, question, { ...this.#patience, ...ask });
    return { nodes: uniqueBy(items, (node) => node.node_id), errors };
  }

  /** @throws {ProtocolError} NEX_NODE_NOT_FOUND */
  async nodeInfo(nodeId: string, options: AskNodeOptions = {}): Promise<NodeInfo> {
    const subject = controlSubjects.info(SYSTEM_NAMESPACE, nodeId);
    return this.#askNode(nodeId, { subject, payload: NodeInfoRequest.encode({}), type: NodeInfoResponse }, options);
  }

  /**
   * Makes a node take no more workloads and end after `delay` milliseconds.
   *
   * @throws {ProtocolError} NEX_NODE_NOT_FOUND: also when the node lacks one of the tags
   */
  async lameduck(
    nodeId: string,
    { delay, tag, ...options }: AskNodeOptions & { delay: number; tag?: Tags },
  ): Promise<LameduckResponse> {
    const subject = controlSubjects.lameduck(SYSTEM_NAMESPACE, nodeId);
    const payload = LameduckRequest.encode({ delay: formatGoDuration(delay), ...(tag === undefined ? {} : { tag }) });
    return this.#askNode(nodeId, { subject, payload, type: LameduckReply }, options);
  }

  /** The tags of all nodes in one; of a key that several have, one of the values. */
  async placementTags(ask: AskOptions = {}): Promise<{ tags: Tags; errors: ProtocolError[] }> {
    const subject = controlSubjects.placementTags(SYSTEM_NAMESPACE);
    const question = { subject, payload: '', type: PlacementTags };
    const { items, errors } = await askAll(this.#nc, question, { ...this.#patience, ...ask });
    return { tags: Object.assign({}, ...items.toReversed()) as Tags, errors };
  }

  /** The id of the nexlet of a node that registered with `name`; undefined when it has none, or is not there. */
  async agentIdByName(nodeId: string, name: string, options: AskNodeOptions = {}): Promise<string | undefined> {
    const subject = controlSubjects.agentId(SYSTEM_NAMESPACE, nodeId);
    const { reply } = await requestOne(this.#nc, subject, name, { timeout: this.timeout, ...options });
    if (reply === undefined) return undefined;
    const error = readErrorReply(reply);
    if (error !== undefined) throw error;
    return subjectToken(reply.string(), 'nexlet id');
  }

  /** Asks all nodes who could run a workload of `type`. A bid holds for a few seconds and for one workload. */
  async auction({
    type,
    tags = {},
    namespace = this.namespace,
    lifecycle,
    workload,
    needs,
    explain,
    ...ask
  }: AuctionOptions): Promise<AuctionResult> {
    const subject = controlSubjects.auction(namespace);
    const payload = AuctionRequest.encode({
      agent_type: type,
      auction_id: newId(),
      tags,
      ...(lifecycle === undefined ? {} : { lifecycle }),
      ...(workload === undefined ? {} : { workload }),
      ...(needs === undefined ? {} : { needs: { ...needs } }),
      ...(explain === undefined ? {} : { explain }),
    });
    let count = 0;
    const { replies, noResponders } = await gather(this.#nc, subject, payload, {
      ...this.#patience,
      until: (reply) => reply.headers?.has(NO_BID_HEADER) !== true && ++count === MAX_BIDS,
      ...ask,
    });
    const isNoBid = Object.groupBy(replies, (reply) => (reply.headers?.has(NO_BID_HEADER) === true ? 'no' : 'yes'));
    const bids = readReplies(AuctionResponse, isNoBid.yes ?? [], subject);
    const noBids = readReplies(NoBid, isNoBid.no ?? [], subject);
    return {
      bids: uniqueBy(bids.items, (bid) => bid.bidder_id),
      noBids: noBids.items,
      errors: [...bids.errors, ...noBids.errors],
      noResponders,
    };
  }

  /**
   * Hands a workload to the node that made the bid.
   *
   * @throws {ProtocolError} NEX_NO_NODES; NEX_NO_ANSWER when the bid is used or too old; NEX_PEER_… what node or nexlet says
   */
  async deploy(bid: Bid, request: StartWorkloadRequest, options: DeployOptions = {}): Promise<StartWorkloadResponse> {
    const outcome = await deployTo(this.#nc, bid, request, options);
    if ('started' in outcome) return outcome.started;
    throw outcome.notStarted;
  }

  /**
   * Auction, choice of a bid, deploy. When nobody can run the workload, the error says why, within two seconds.
   *
   * @throws {ProtocolError} NEX_NO_NODES, NEX_NO_BIDS, NEX_REQUEST_INVALID, NEX_ENVIRONMENT_IN_CLEAR; as {@link deploy}
   */
  async startWorkload(workload: WorkloadToPlace): Promise<PlacedWorkload> {
    return placeWorkload(this.#nc, this, workload);
  }

  /**
   * Stops a workload; resolves when the node says that it is stopped.
   *
   * @throws {ProtocolError} NEX_WORKLOAD_NOT_FOUND, NEX_WORKLOAD_AMBIGUOUS, NEX_NO_ANSWER; NEX_PEER_… what node or nexlet says
   */
  async stopWorkload(id: string, options: StopWorkloadOptions = {}): Promise<StopWorkloadResponse> {
    return stopWorkload(this.#nc, this, id, options);
  }

  /** Workloads of a namespace; `filter` holds ids or names. */
  async listWorkloads(options: ListWorkloadsOptions = {}): Promise<ListedWorkloads> {
    return listWorkloads(this.#nc, this, options);
  }

  /**
   * What a workload was started with, its sealed environment opened; undefined when no node has it.
   *
   * @throws {ProtocolError} what a node says that cannot hand it out
   */
  async getWorkload(id: string, options: GetWorkloadOptions = {}): Promise<WorkloadDefinition | undefined> {
    return getWorkload(this.#nc, this, id, options);
  }

  /**
   * Starts a workload once more, wherever the tags allow; with `stop` the original is stopped afterwards.
   *
   * @throws {ProtocolError} NEX_WORKLOAD_NOT_FOUND; NEX_SEAL_INVALID when its nexlet keeps its environment to itself; as
   * {@link startWorkload} and {@link stopWorkload}
   */
  async cloneWorkload(id: string, options: CloneWorkloadOptions = {}): Promise<ClonedWorkload> {
    return cloneWorkload(this.#nc, this, id, options);
  }

  get #patience(): { timeout: number; stall: number } {
    return { timeout: this.timeout, stall: this.stall };
  }

  async #askNode<T>(
    nodeId: string,
    { subject, payload, type }: Question<T>,
    { timeout = this.timeout, signal }: AskNodeOptions,
  ): Promise<T> {
    const { reply } = await requestOne(this.#nc, subject, payload, { timeout, signal });
    if (reply !== undefined) return readReply(type, reply, subject);
    throw new ProtocolError('NEX_NODE_NOT_FOUND', `Cannot reach node "${nodeId}": no node answers to that id`, {
      hint: 'See which nodes there are: nex node list',
    });
  }
}

/** Some peers answer twice: the first answer counts. */
function uniqueBy<T>(items: readonly T[], key: (item: T) => string): T[] {
  const seen = new Set<string>();
  return items.filter((item) => !seen.has(key(item)) && seen.add(key(item)));
}
