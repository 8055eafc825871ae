import { setImmediate as turn } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import { type Logger, MicroService, silentLogger } from '@nex-nix/nexlet';
import {
  controlSubjects,
  formatGoDuration,
  requestOne,
  type StartWorkloadRequest,
  SYSTEM_NAMESPACE,
  type Tags,
} from '@nex-nix/protocol';
import { AgentGateway } from './agents/agent-gateway.ts';
import { AgentRegistry } from './agents/agent-registry.ts';
import { BidBook } from './bid-book.ts';
import { ConnectionWatch } from './connection-watch.ts';
import { addControlEndpoints } from './control-endpoints.ts';
import { Departures } from './agents/departures.ts';
import { OwnNexlets } from './agents/own-nexlets.ts';
import type { NodeIdentity } from './identity.ts';
import { fullAccessMinter, type Holder, type Minter } from './credentials/minter.ts';
import { Revocations } from './credentials/revocations.ts';
import { ensureFeedStream } from './feed-stream.ts';
import { failureReply, type NodeContext } from './node-context.ts';
import { NodeError } from './node-error.ts';
import type { Metric } from './metrics/metric.ts';
import { NodeCounters } from './metrics/node-counters.ts';
import { nodeMetrics } from './metrics/node-metrics.ts';
import { NodeFeed } from './node-feed.ts';
import type { NodeOptions } from './node-options.ts';
import { addPlacementEndpoints } from './placement-endpoints.ts';
import { addRegistrationEndpoint, addRemoteRegistrationEndpoint } from './registration-endpoint.ts';
import type { Node, NodeEnd } from './start-node.ts';
import { type DesiredState, NO_STATE } from './state/desired-state.ts';
import { DesiredWorkloads } from './state/desired-workloads.ts';
import { openState, type OpenStateOptions } from './state/open-state.ts';
import { nodeTags } from './tags.ts';
import { addWorkloadEndpoints } from './workload-endpoints.ts';

/** Longest wait of a Node.js timer, in milliseconds. */
const MAX_TIMER = 2 ** 31 - 1;
/** How long another process with the same identity may take to show itself, in milliseconds. */
const TWIN_TIMEOUT = 500;

export class RunningNode implements Node, NodeContext {
  readonly nc: NatsConnection;
  readonly id: string;
  readonly xkey: string;
  readonly xkeyPair: KeyPair;
  readonly name: string;
  readonly nexus: string;
  readonly version: string;
  readonly startTime = new Date();
  readonly tags: Tags;
  state: NodeContext['state'] = 'starting';
  readonly registry: AgentRegistry;
  readonly agents: AgentGateway;
  readonly bids: BidBook;
  desired: DesiredWorkloads;
  readonly maxWorkloads: number;
  readonly minter: Minter;
  readonly feed: NodeFeed;
  readonly counters = new NodeCounters();
  readonly admit: NodeContext['admit'];
  readonly logger: Logger;
  readonly closed: Promise<NodeEnd>;
  readonly #options: NodeOptions;
  readonly #nexlets: OwnNexlets;
  readonly #departures: Departures;
  readonly #revocations: Revocations;
  readonly #stateOptions: OpenStateOptions;
  readonly #reconcileMs: number;
  readonly #closed = Promise.withResolvers<NodeEnd>();
  #watch: ConnectionWatch | undefined;
  #service: MicroService | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #lameduckEnd: NodeJS.Timeout | undefined;
  #announced = false;
  #end: Promise<void> | undefined;

  constructor(nc: NatsConnection, options: NodeOptions & NodeIdentity) {
    const { id, xkey, xkeyPair, name, nexus = 'nexus', logger = silentLogger } = options;
    this.#options = options;
    this.nc = nc;
    this.id = id;
    this.xkey = xkey;
    this.xkeyPair = xkeyPair;
    this.name = name;
    this.nexus = nexus;
    this.version = options.version;
    this.tags = nodeTags(options.tags ?? {}, { name, nexus });
    this.logger = logger.child({ component: 'node', nodeId: id });
    this.minter = options.minter ?? fullAccessMinter({ servers: options.servers ?? [`nats://${nc.getServer()}`] });
    this.registry = new AgentRegistry(nc, { nodeId: id, logger: this.logger });
    this.agents = new AgentGateway(nc, { nodeId: id, registry: this.registry, logger: this.logger });
    this.bids = new BidBook(options.auctionTtlMs ?? 10_000);
    this.closed = this.#closed.promise;
    this.maxWorkloads = options.maxWorkloads ?? 0;
    this.admit = options.admit ?? (() => true);
    this.feed = new NodeFeed(nc, { id, events: options.events ?? 'nats', logger: this.logger });
    this.#revocations = new Revocations(this.minter, this.logger);
    this.#departures = new Departures(this);
    this.#nexlets = new OwnNexlets(this, {
      embedded: options.nexlets ?? [],
      local: options.localNexlets ?? [],
      restartLimit: options.agentRestartLimit ?? 3,
      stateDir: options.stateDir,
    });
    this.#stateOptions = {
      option: options.state ?? '',
      nodeId: id,
      logger: this.logger,
      replicas: options.jetstreamReplicas ?? 1,
    };
    this.#reconcileMs = options.reconcileMs ?? 10_000;
    this.desired = this.#desiredIn(NO_STATE);
  }

  async start(): Promise<void> {
    const signal = this.#options.signal ?? new AbortController().signal;
    await this.#refuseTwin(signal);
    const state = await openState(this.nc, this.#stateOptions);
    if (state !== undefined) {
      this.desired = this.#desiredIn(state);
      this.desired.start();
      this.registry.events.on('changed', () => this.desired.poke());
    }
    if (this.#options.retain === true) {
      await ensureFeedStream(this.nc, { replicas: this.#stateOptions.replicas });
    }
    await this.#serve();
    void this.#endWithConnection();
    this.#announced = true;
    this.feed.started(this);
    this.#heartbeat = setInterval(() => this.#beat(), this.#options.heartbeatMs ?? 10_000);
    await this.#nexlets.start(signal);
    await this.nc.flush();
    signal.throwIfAborted();
    // A lame duck request may have come meanwhile.
    if (this.state === 'starting') this.state = 'running';
    this.logger.info({ name: this.name, nexus: this.nexus, tags: this.tags }, 'node running');
  }

  async lameduck(delay: number): Promise<void> {
    await this.enterLameduck(delay);
  }

  metrics(): Promise<Metric[]> {
    return nodeMetrics(this);
  }

  get complaint(): string | undefined {
    if (this.state === 'lameduck') return 'the node is a lame duck';
    if (this.state !== 'running') return `the node is ${this.state}`;
    return this.#watch?.connected === true ? undefined : 'the node has no connection to NATS';
  }

  abandon(): void {
    this.#nexlets.abandon();
  }

  runsNexlet(agentId: string): boolean {
    return this.#nexlets.has(agentId);
  }

  nexletEnded(agentId: string, reason: string): void {
    const agent = this.registry.get(agentId);
    if (agent === undefined) return;
    this.registry.remove(agentId);
    this.logger.info({ agentId, nexlet: agent.request.name, reason }, 'nexlet ended');
    this.feed.agentStopped({ id: agentId, name: agent.request.name, reason });
    this.revoke({ kind: 'agent', nodeId: this.id, id: agentId });
  }

  nexletLost(agentId: string, reason: string): void {
    const agent = this.registry.get(agentId);
    if (agent === undefined) return;
    this.registry.lost(agent);
    this.feed.agentStopped({ id: agentId, name: agent.request.name, reason });
  }

  revoke(holder: Holder): void {
    this.#revocations.add(holder);
  }

  async enterLameduck(delayMs: number): Promise<Date> {
    const end = new Date(Date.now() + delayMs);
    if (this.state === 'stopping') return end;
    this.state = 'lameduck';
    this.tags['nex.lameduck'] = 'true';
    this.bids[Symbol.dispose]();
    clearTimeout(this.#lameduckEnd);
    this.#lameduckEnd = setTimeout(() => void this.#endAlone('lameduck'), Math.min(delayMs, MAX_TIMER));
    this.logger.info({ end: end.toISOString() }, 'lame duck mode');
    for (const success of await this.agents.lameduck(formatGoDuration(delayMs))) this.feed.agentLameduck(success);
    this.feed.lameduck(end);
    return end;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#finish('stopped');
  }

  /** Ends the node by itself. The owner waits for `closed`; what goes wrong can only be logged. */
  async #endAlone(reason: NodeEnd): Promise<void> {
    try {
      await this.#finish(reason);
    } catch (error) {
      this.logger.error({ err: error }, 'the node ended with an error');
    }
  }

  /** A connection that is closed, and not just lost, never comes back. */
  async #endWithConnection(): Promise<void> {
    const error = await this.nc.closed();
    if (this.state === 'stopping') return;
    this.logger.error({ err: error }, 'the NATS connection of the node was closed');
    await this.#endAlone('stopped');
  }

  #finish(reason: NodeEnd): Promise<void> {
    this.#end ??= this.#stop().finally(() => this.#closed.resolve(reason));
    return this.#end;
  }

  async #stop(): Promise<void> {
    this.state = 'stopping';
    clearTimeout(this.#lameduckEnd);
    clearInterval(this.#heartbeat);
    this.bids[Symbol.dispose]();
    // First of all: what ends with its nexlet is not to be started again.
    await this.desired[Symbol.asyncDispose]();
    await this.#departures[Symbol.asyncDispose]();
    const [nexlets] = await Promise.allSettled([this.#nexlets[Symbol.asyncDispose]()]);
    await this.#service?.[Symbol.asyncDispose]();
    this.registry[Symbol.dispose]();
    await this.#revocations[Symbol.asyncDispose]();
    if (this.#announced) this.feed.stopped();
    await this.#watch?.[Symbol.asyncDispose]();
    this.logger.info({}, 'node stopped');
    if (nexlets.status === 'rejected') throw nexlets.reason;
  }

  /** Two processes with one identity would each get a part of the requests. */
  async #refuseTwin(signal: AbortSignal): Promise<void> {
    const subject = controlSubjects.pingNode(SYSTEM_NAMESPACE, this.id);
    const { reply } = await requestOne(this.nc, subject, '{}', { timeout: TWIN_TIMEOUT, signal });
    if (reply === undefined) return;
    throw new NodeError('NODE_ALREADY_RUNNING', `Cannot start node "${this.name}": node ${this.id} runs already`, {
      hint: 'Stop the other process, or give this one another state folder',
    });
  }

  async #serve(): Promise<void> {
    this.#watch = new ConnectionWatch(this.nc, this.logger);
    this.#service = await MicroService.open(this.nc, {
      name: 'nexnode',
      version: this.version,
      description: `nex-nix node ${this.name}`,
      queue: this.id,
      failure: (error, endpoint) => failureReply(error, { endpoint, logger: this.logger }),
      logger: this.logger,
    });
    addControlEndpoints(this.#service, this);
    addPlacementEndpoints(this.#service, this);
    addWorkloadEndpoints(this.#service, this);
    addRegistrationEndpoint(this.#service, this);
    if (this.#options.allowRemoteNexlets === true) {
      addRemoteRegistrationEndpoint(this.#service, this);
      this.logger.warn({}, 'remote registration enabled: nexlets that nobody started here can register to this node');
    }
    await this.nc.flush();
    await turn();
    const subject = this.#watch.deniedSubject;
    if (subject === undefined) return;
    throw new NodeError(
      'NODE_PERMISSION',
      `Cannot start node "${this.name}": the NATS server denies it subject "${subject}"`,
      {
        hint: 'A node must be allowed to publish and subscribe to $NEX.>, $SRV.> and _INBOX.>',
      },
    );
  }

  #desiredIn(state: DesiredState): DesiredWorkloads {
    const mint = (workloadId: string, { namespace, name }: StartWorkloadRequest) =>
      this.minter.workload({ namespace, workloadId, name });
    return new DesiredWorkloads(this, { state, mint, intervalMs: this.#reconcileMs });
  }

  #beat(): void {
    this.feed.heartbeat(this.registry.alive().map(({ id, request }) => ({ id, type: request.register_type })));
  }
}
