import type { NatsConnection } from '@nats-io/nats-core';
import { createCurve } from '@nats-io/nkeys';
import {
  agentErrorReply,
  AgentHeartbeat,
  agentSubjects,
  type AgentStartWorkloadRequest,
  type AgentSummary,
  type NatsConnectionData,
  type RegisterAgentResponse,
} from '@nex-nix/protocol';
import { closeConnection, connectWith } from './connect-with.ts';
import { keepCredentials } from './credential-renewal.ts';
import { createFeeds } from './feeds.ts';
import { keepBeating } from './heartbeat.ts';
import { type Logger, silentLogger } from './logger.ts';
import { MicroService } from './micro-service.ts';
import { checkDefinition, type NexletDefinition } from './nexlet-definition.ts';
import { addBidEndpoint, addNexletEndpoints, type NexletParts, startFrom } from './nexlet-endpoints.ts';
import { register } from './registration.ts';

export interface RunNexletOptions {
  /** What the node gave to register with. */
  registration: NatsConnectionData;
  nodeId: string;
  nexus: string;
  /** The id that the node assigned. */
  agentId: string;
  logger?: Logger;
  /** Ends the start; a running nexlet ends by being disposed. */
  signal?: AbortSignal;
}

/** A nexlet at work. Disposing it closes the definition first, while its feeds still work, then its endpoints. */
export interface RunningNexlet extends AsyncDisposable {
  readonly agentId: string;
  /** Public curve key, `X…`. */
  readonly xkey: string;
}

/**
 * Registers a nexlet with a node, this project's or Go's, and serves it until disposed.
 *
 * @throws {NexletError} and what `definition.ready` throws; nothing is left running then
 */
export async function runNexlet(definition: NexletDefinition, options: RunNexletOptions): Promise<RunningNexlet> {
  checkDefinition(definition);
  const { nodeId, agentId, registration, signal } = options;
  const xkey = createCurve().getPublicKey();
  const registrant = { definition, nodeId, agentId, xkey };
  const nc = await connectWith(registration, { signal });
  let response: RegisterAgentResponse;
  try {
    response = await register(nc, registrant, signal);
  } finally {
    await nc.close();
  }
  const running = new Running(definition, { ...options, xkey, response });
  try {
    await running.start((connection, aborted) => register(connection, registrant, aborted));
  } catch (error) {
    await running[Symbol.asyncDispose]();
    throw error;
  }
  return running;
}

type Register = (nc: NatsConnection, signal: AbortSignal) => Promise<RegisterAgentResponse>;

class Running implements RunningNexlet {
  readonly agentId: string;
  readonly xkey: string;
  readonly #definition: NexletDefinition;
  readonly #options: RunNexletOptions;
  readonly #logger: Logger;
  readonly #existing: Record<string, AgentStartWorkloadRequest>;
  readonly #startTime = new Date().toISOString();
  readonly #abort = new AbortController();
  readonly #background = new Set<Promise<void>>();
  readonly #asksForBids: boolean;
  #connectionData: NatsConnectionData;
  #nc: NatsConnection | undefined;
  #service: MicroService | undefined;
  #state: 'starting' | 'running' | 'lameduck' | 'stopping' = 'starting';
  #disposed: Promise<void> | undefined;

  constructor(
    definition: NexletDefinition,
    options: RunNexletOptions & { xkey: string; response: RegisterAgentResponse },
  ) {
    this.agentId = options.agentId;
    this.xkey = options.xkey;
    this.#definition = definition;
    this.#options = options;
    this.#logger = (options.logger ?? silentLogger).child({ component: 'nexlet', nexlet: definition.name });
    this.#connectionData = options.response.connection_data;
    this.#existing = options.response.existing_state;
    this.#asksForBids = options.response.asks_for_bids ?? false;
  }

  async start(register: Register): Promise<void> {
    const { nodeId, nexus, signal } = this.#options;
    const definition = this.#definition;
    const nc = await connectWith(() => this.#connectionData, { signal });
    this.#nc = nc;
    this.#watch(nc);
    const feeds = createFeeds(nc);
    await definition.ready?.(feeds);
    const parts: NexletParts = {
      definition,
      nodeId,
      nexus,
      agentId: this.agentId,
      feeds,
      summary: () => this.#summary(),
      changed: (state) => {
        if (state !== undefined && this.#state !== 'stopping') this.#state = state;
        this.#run(this.#beat());
      },
    };
    this.#service = await MicroService.open(nc, {
      name: definition.name,
      version: definition.version,
      queue: this.agentId,
      failure: (error) => agentErrorReply(error),
      logger: this.#logger,
    });
    addNexletEndpoints(this.#service, parts);
    if (this.#asksForBids) addBidEndpoint(this.#service, parts);
    await nc.flush();
    signal?.throwIfAborted();
    this.#state = 'running';
    for (const [id, request] of Object.entries(this.#existing)) this.#run(this.#restore(parts, id, request));
    this.#run(keepBeating(() => this.#beat(), this.#abort.signal));
    this.#run(this.#keepCredentials(nc, register));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#state = 'stopping';
    if (this.#service !== undefined) await this.#beat();
    try {
      await this.#definition.close?.();
    } finally {
      this.#abort.abort();
      await this.#service?.[Symbol.asyncDispose]();
      if (this.#nc !== undefined) await closeConnection(this.#nc);
      await Promise.all(this.#background);
    }
  }

  /** Owns a piece of background work, which must not reject. */
  #run(work: Promise<void>): void {
    this.#background.add(work);
    void work.finally(() => this.#background.delete(work));
  }

  async #summary(): Promise<AgentSummary> {
    const { name, type, version, lifecycles } = this.#definition;
    const workloads = await this.#definition.list({ namespace: 'system', filter: [] });
    return {
      name,
      type,
      version,
      start_time: this.#startTime,
      state: this.#state,
      supported_lifecycles: lifecycles.join(','),
      workload_count: workloads.filter(({ workload_state: state }) => state !== 'stopped' && state !== 'error').length,
    };
  }

  async #beat(): Promise<void> {
    const nc = this.#nc;
    if (nc === undefined || nc.isClosed()) return;
    try {
      const data = JSON.stringify({ register_type: this.#definition.type });
      const payload = AgentHeartbeat.encode({ data, summary: await this.#summary() });
      nc.publish(agentSubjects.heartbeat(this.#options.nodeId, this.agentId), payload);
    } catch (error) {
      if (!nc.isClosed()) this.#logger.warn({ err: error }, 'heartbeat failed');
    }
  }

  async #restore(parts: NexletParts, id: string, request: AgentStartWorkloadRequest): Promise<void> {
    try {
      await startFrom(parts, id, request, true);
    } catch (error) {
      this.#logger.error({ err: error, workloadId: id }, 'existing workload could not be restored');
    }
  }

  async #keepCredentials(nc: NatsConnection, register: Register): Promise<void> {
    await keepCredentials({
      current: () => this.#connectionData,
      renew: async (signal) => {
        this.#connectionData = (await register(nc, signal)).connection_data;
      },
      logger: this.#logger,
      signal: this.#abort.signal,
    });
  }

  /** Logs what happens to the connection, and tells the node after a reconnect that this nexlet is still there. */
  #watch(nc: NatsConnection): void {
    const watching = async () => {
      for await (const status of nc.status()) {
        if (status.type === 'error') this.#logger.warn({ err: status.error }, 'NATS server reports an error');
        else if (status.type === 'disconnect') this.#logger.warn({}, 'NATS connection lost');
        else if (status.type === 'reconnect') {
          this.#logger.info({ server: status.server }, 'NATS connection is back');
          await this.#beat();
        }
      }
    };
    this.#run(watching());
  }
}
