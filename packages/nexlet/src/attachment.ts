import type { NatsConnection } from '@nats-io/nats-core';
import {
  agentErrorReply,
  AgentHeartbeat,
  agentSubjects,
  type NatsConnectionData,
  type RegisterAgentResponse,
} from '@nex-nix/protocol';
import { closeConnection, connectWith } from './connect-with.ts';
import { keepCredentials } from './credential-renewal.ts';
import { subscribeToEvents } from './event-listener.ts';
import { Heartbeat } from './heartbeat.ts';
import { MicroService } from './micro-service.ts';
import type { Nexlet } from './nexlet.ts';
import { addBidEndpoint, addNexletEndpoints, type NexletParts } from './nexlet-endpoints.ts';
import { NexletError } from './nexlet-error.ts';
import { NodeWatch, type NodeWatchTimes } from './node-watch.ts';
import { Registrar, type RegistrarOptions } from './registrar.ts';
import { RepeatedErrors } from './repeated-errors.ts';
import { restoreWorkloads } from './restore-workloads.ts';

/** So many times in a row a node may refuse to register a nexlet again before the nexlet takes it for lost. */
const MAX_REFUSALS = 3;

export interface AttachmentOptions extends RegistrarOptions {
  /** Unknown at Go nodes. */
  nexus: string | undefined;
  /** Whether to notice that the node restarted or is gone: the nexlet does not live and die with it. */
  watch?: NodeWatchTimes | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * A nexlet at one node: registered, connected with the credentials that the node made for it, and served. Disposing it
 * leaves the nexlet and its workloads as they are.
 */
export class Attachment implements AsyncDisposable {
  readonly nodeId: string;
  readonly agentId: string;
  /** Resolves with the reason when the nexlet is not at the node any more. Pending for ever after a disposal. */
  readonly lost: Promise<NexletError>;
  readonly #nexlet: Nexlet;
  readonly #options: AttachmentOptions;
  readonly #registrar: Registrar;
  readonly #parts: NexletParts;
  readonly #abort = new AbortController();
  readonly #background = new Set<Promise<void>>();
  readonly #heartbeat = new Heartbeat(() => this.#beat());
  readonly #lose: (reason: NexletError) => void;
  #connectionData: NatsConnectionData;
  #nc: NatsConnection | undefined;
  #service: MicroService | undefined;
  #watch: NodeWatch | undefined;
  #registering: Promise<void> | undefined;
  #replaced = new AbortController();
  #refusals = 0;
  #disposed: Promise<void> | undefined;

  /**
   * Registers a nexlet with a node and serves it there.
   *
   * @throws {NexletError} and what `definition.ready` throws; nothing of the attachment is left then
   */
  static async open(nexlet: Nexlet, options: AttachmentOptions): Promise<Attachment> {
    const registrar = new Registrar(nexlet, options);
    const response = await registrar.first(options.signal);
    const attachment = new Attachment(nexlet, { ...options, registrar, connectionData: response.connection_data });
    try {
      await attachment.#start(response);
    } catch (error) {
      await attachment[Symbol.asyncDispose]();
      throw error;
    }
    return attachment;
  }

  private constructor(
    nexlet: Nexlet,
    options: AttachmentOptions & { registrar: Registrar; connectionData: NatsConnectionData },
  ) {
    const { nodeId, nexus, agentId, registrar, connectionData } = options;
    const { definition, feeds, xkey, logger } = nexlet;
    this.nodeId = nodeId;
    this.agentId = agentId;
    this.#nexlet = nexlet;
    this.#options = options;
    this.#registrar = registrar;
    this.#connectionData = connectionData;
    const lost = Promise.withResolvers<NexletError>();
    this.lost = lost.promise;
    this.#lose = lost.resolve;
    const parts = { definition, nodeId, nexus, agentId, feeds, xkey, logger, summary: () => nexlet.summary() };
    this.#parts = {
      ...parts,
      changed: (state) => {
        if (state !== undefined && nexlet.state !== 'stopping') nexlet.state = state;
        this.#run(this.#beat());
      },
    };
  }

  async #start(response: RegisterAgentResponse): Promise<void> {
    const { watch, signal } = this.#options;
    const nexlet = this.#nexlet;
    const { signal: aborted } = this.#abort;
    const nc = await connectWith(() => this.#connectionData, { signal });
    this.#nc = nc;
    this.#run(this.#followStatus(nc));
    await nexlet.connected(nc, this.agentId);
    this.#service = await this.#serve(nc, response);
    if (watch !== undefined) this.#watch = this.#watchNode(nc, watch);
    await nc.flush();
    signal?.throwIfAborted();
    if (this.#service.hasEnded) throw deniedFor(nexlet.definition.name, await this.#service.ended());
    if (nexlet.state === 'starting') nexlet.state = 'running';
    this.#run(restoreWorkloads(this.#parts, response));
    this.#run(this.#heartbeat.run(aborted));
    this.#keepCredentials();
  }

  /** Until there are others. */
  #keepCredentials(): void {
    this.#replaced.abort();
    this.#replaced = new AbortController();
    const keeping = keepCredentials(this.#connectionData, {
      renew: () => this.#registerAgain(),
      logger: this.#nexlet.logger,
      signal: AbortSignal.any([this.#abort.signal, this.#replaced.signal]),
    });
    this.#run(keeping);
  }

  async #serve(nc: NatsConnection, { asks_for_bids: asksForBids }: RegisterAgentResponse): Promise<MicroService> {
    const { definition, logger } = this.#nexlet;
    const service = await MicroService.open(nc, {
      name: definition.name,
      version: definition.version,
      queue: this.agentId,
      failure: (error) => agentErrorReply(error),
      logger,
    });
    addNexletEndpoints(service, this.#parts);
    if (asksForBids === true) addBidEndpoint(service, this.#parts);
    subscribeToEvents(nc, this.#parts);
    this.#run(this.#noticeEndOf(service));
    return service;
  }

  async #noticeEndOf(service: MicroService): Promise<void> {
    const reason = await service.ended();
    if (reason === undefined) return;
    this.#lose(lostFor(this.#nexlet.definition.name, `its service has ended: ${reason.message}`, reason));
  }

  #watchNode(nc: NatsConnection, times: NodeWatchTimes): NodeWatch {
    const { logger, definition } = this.#nexlet;
    const { nodeId, agentId } = this;
    const { signal } = this.#abort;
    const forgotten = () => {
      const work = this.#forgotten();
      this.#run(work);
      return work;
    };
    const watch = new NodeWatch(nc, { ...times, nodeId, agentId, logger, signal, forgotten });
    const watching = async () => {
      if (await watch.untilGone()) this.#lose(lostFor(definition.name, `node "${nodeId}" is gone`));
    };
    this.#run(watching());
    return watch;
  }

  /** The node was restarted, or took this nexlet for dead. */
  async #forgotten(): Promise<void> {
    const { logger, definition, state } = this.#nexlet;
    // It has said goodbye.
    if (state === 'stopping') return;
    try {
      await this.#registerAgain();
      logger.info({ nodeId: this.nodeId }, 'nexlet registered again: the node did not know it any more');
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      logger.warn({ err: error, nodeId: this.nodeId }, 'nexlet could not be registered again');
      if (!(error instanceof NexletError) || error.code !== 'NEXLET_REGISTRATION_REFUSED') return;
      if (++this.#refusals < MAX_REFUSALS) return;
      this.#lose(lostFor(definition.name, `node "${this.nodeId}" does not take it back`, error));
    }
  }

  /** Registers again, one at a time, and does what the node wants done. */
  async #registerAgain(): Promise<void> {
    const again = async () => {
      const { signal } = this.#abort;
      if (this.#nc === undefined) return;
      const response = await this.#registrar.again(this.#nc, this.#connectionData, signal);
      if (signal.aborted) return;
      this.#connectionData = response.connection_data;
      this.#refusals = 0;
      this.#keepCredentials();
      this.#heartbeat.restart();
      this.#run(restoreWorkloads(this.#parts, response));
    };
    this.#registering ??= again().finally(() => (this.#registering = undefined));
    await this.#registering;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#abort.abort();
    await this.#service?.[Symbol.asyncDispose]();
    if (this.#nc !== undefined) await closeConnection(this.#nc);
    await Promise.all(this.#background);
  }

  /** Tells the node at once how the nexlet is. */
  async announce(): Promise<void> {
    if (this.#service !== undefined) await this.#beat();
  }

  async #beat(): Promise<void> {
    const nc = this.#nc;
    if (nc === undefined || nc.isClosed()) return;
    try {
      const data = JSON.stringify({ register_type: this.#nexlet.definition.type });
      const payload = AgentHeartbeat.encode({ data, summary: await this.#nexlet.summary() });
      nc.publish(agentSubjects.heartbeat(this.nodeId, this.agentId), payload);
    } catch (error) {
      if (!nc.isClosed()) this.#nexlet.logger.warn({ err: error }, 'heartbeat failed');
    }
  }

  /** Logs what happens to the connection, and tells the node after a reconnect that this nexlet is still there. */
  async #followStatus(nc: NatsConnection): Promise<void> {
    const { logger, definition } = this.#nexlet;
    const errors = new RepeatedErrors(logger);
    for await (const status of nc.status()) {
      if (status.type === 'error') errors.log(status.error);
      else if (status.type === 'disconnect') logger.warn({}, 'NATS connection lost');
      else if (status.type === 'reconnect') {
        logger.info({ server: status.server }, 'NATS connection is back');
        this.#watch?.reconnected();
        this.#heartbeat.restart();
      }
    }
    if (this.#disposed === undefined) this.#lose(lostFor(definition.name, 'its NATS connection is closed'));
  }

  /** Owns a piece of background work, which must not reject. */
  #run(work: Promise<void>): void {
    this.#background.add(work);
    void work.finally(() => this.#background.delete(work));
  }
}

function deniedFor(name: string, cause: Error | undefined): NexletError {
  const message = `Cannot serve nexlet "${name}": ${cause?.message ?? 'its service has ended'}`;
  return new NexletError('NEXLET_NATS_REFUSED', message, {
    cause,
    hint: 'The credentials that the node makes must let its nexlets subscribe to their requests',
  });
}

function lostFor(name: string, why: string, cause?: unknown): NexletError {
  return new NexletError('NEXLET_NODE_GONE', `Nexlet "${name}" is at no node any more: ${why}`, { cause });
}
