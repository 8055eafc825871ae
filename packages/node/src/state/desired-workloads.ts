import type { Msg } from '@nats-io/nats-core';
import {
  type AgentStartWorkloadRequest,
  type ListWorkloadsRequest,
  type NatsConnectionData,
  readErrorReply,
  type RegisterAgentRequest,
  type StartWorkloadRequest,
  SYSTEM_NAMESPACE,
  type WorkloadSummary,
} from '@nex-nix/protocol';
import type { Agent } from '../agents/agent-registry.ts';
import type { NodeContext } from '../node-context.ts';
import type { DesiredState } from './desired-state.ts';
import type { DesiredWorkload } from './desired-workload.ts';
import { Owners } from './owners.ts';
import { Reconciler } from './reconciler.ts';

/** What a nexlet is told of its workloads when it registers. */
export interface Existing {
  readonly existing: Record<string, AgentStartWorkloadRequest>;
  /** Of jobs that have begun. */
  readonly renewals: Record<string, NatsConnectionData>;
}

/** What a registration reply has beside the workloads, in bytes, and more. */
const REPLY_OVERHEAD = 64 * 1024;

export interface DesiredWorkloadsOptions {
  readonly state: DesiredState;
  /** New credentials for a workload. */
  readonly mint: (workloadId: string, request: StartWorkloadRequest) => Promise<NatsConnectionData>;
  /** Time between two comparisons when nothing happens, in milliseconds. */
  readonly intervalMs: number;
}

/** A workload that is being stopped; undefined when it was not known that it should run. */
export interface Stopping extends Disposable {
  readonly workload: DesiredWorkload | undefined;
}

/**
 * What a node is to run, as its endpoints see it: written down before a nexlet is asked to start something, taken out
 * before one is asked to stop it, handed to nexlets that register, and compared with what runs.
 */
export class DesiredWorkloads implements AsyncDisposable {
  readonly #node: NodeContext;
  readonly #options: DesiredWorkloadsOptions;
  readonly #owners: Owners;
  readonly #reconciler: Reconciler;

  constructor(node: NodeContext, options: DesiredWorkloadsOptions) {
    this.#node = node;
    this.#options = options;
    this.#owners = new Owners(node, options.state);
    this.#reconciler = new Reconciler(node, { ...options, owners: this.#owners });
  }

  /** Begins to compare; without it nothing is started or stopped here. */
  start(): void {
    this.#reconciler.start();
  }

  /** Something changed: compares soon. */
  poke(): void {
    this.#reconciler.poke();
  }

  /**
   * Runs a deployment so that it is known whatever happens to this process meanwhile: `ask` is called when it is written
   * down, and what the nexlet answers is written down before it is returned. A nexlet that refuses, or does not answer in
   * time, is not to run it.
   *
   * @throws {NodeError} NODE_STATE_UNAVAILABLE before anything was asked; what `ask` throws
   */
  async place(
    id: string,
    { agent, request }: { agent: Agent; request: StartWorkloadRequest },
    ask: () => Promise<Msg | undefined>,
  ): Promise<Msg | undefined> {
    const { state } = this.#options;
    using _ = this.#reconciler.busyWith(id);
    const owner = { name: agent.request.name, xkey: agent.request.public_xkey };
    const workload: DesiredWorkload = { id, request, owner, progress: 'starting', since: new Date() };
    try {
      await state.put(workload);
    } catch (error) {
      await this.#attempt(() => state.remove(id, request.workload_type));
      throw error;
    }
    const reply = await ask();
    if (reply !== undefined && readErrorReply(reply) === undefined) {
      this.#reconciler.placed(id, agent);
      // A stop may have come in between.
      if (state.get(id) === workload) {
        await this.#attempt(() => state.put({ ...workload, progress: 'accepted', since: new Date() }));
      }
    } else {
      await this.#attempt(() => state.remove(id, request.workload_type));
    }
    return reply;
  }

  /**
   * To be called before a workload is stopped: from now on it is not to run. The comparison stays away from it until the
   * result is disposed of.
   */
  async stopping(id: string, namespace: string): Promise<Stopping> {
    const { state } = this.#options;
    const busy = this.#reconciler.busyWith(id);
    const workload = state.get(id);
    if (workload === undefined || workload.request.namespace !== namespace) return { ...busy, workload: undefined };
    await this.#attempt(() => state.remove(id, workload.request.workload_type));
    return { ...busy, workload };
  }

  /** To be called when a nexlet has stopped a workload, known here or not. */
  async stopped(id: string, type: string): Promise<void> {
    const { state } = this.#options;
    if (type !== '' && !state.isRemoved(id)) await this.#attempt(() => state.remove(id, type));
  }

  /** What should run and does not, as lists show it: nexlets do not know of it, and yet it can be asked for and stopped. */
  missing({ namespace, filter }: ListWorkloadsRequest): WorkloadSummary[] {
    const { state } = this.#options;
    return [...this.#reconciler.missing].flatMap(([id, reason]) => {
      const workload = state.get(id);
      if (workload === undefined) return [];
      const { request, since } = workload;
      if (namespace !== SYSTEM_NAMESPACE && namespace !== request.namespace) return [];
      if (filter.length > 0 && !filter.includes(id) && !filter.includes(request.name)) return [];
      return {
        id,
        name: request.name,
        namespace: request.namespace,
        runtime: '--',
        start_time: since.toISOString(),
        tags: request.tags,
        metadata: { reason, node_id: this.#node.id },
        workload_lifecycle: request.workload_lifecycle,
        workload_state: 'error' as const,
        workload_type: request.workload_type,
      };
    });
  }

  /** Whether a nexlet that may run the workload is away: it may run it still. */
  isAway(workload: DesiredWorkload): boolean {
    return this.#owners.agentFor(workload) === undefined;
  }

  /** What a nexlet that registers is to run, and what it may still run, with new credentials for each workload. */
  async existingFor(agentId: string, request: RegisterAgentRequest): Promise<Existing> {
    const { state, mint } = this.#options;
    const claimed = this.#owners.claim(agentId, request);
    const owner = { name: request.name, xkey: request.public_xkey };
    const existing: Record<string, AgentStartWorkloadRequest> = {};
    const renewals: Record<string, NatsConnectionData> = {};
    let room = (this.#node.nc.info?.max_payload ?? 0) - REPLY_OVERHEAD;
    for (const workload of claimed) {
      if (workload.owner?.xkey !== owner.xkey) await this.#attempt(() => state.put({ ...workload, owner }));
    }
    for (const { id, request: start } of claimed.filter((workload) => this.#reconciler.isToRun(workload))) {
      const entry = { request: start, workload_creds: await mint(id, start) };
      room -= Buffer.byteLength(JSON.stringify(entry));
      // What does not fit into one message is started by the comparison, one by one.
      if (room < 0) break;
      existing[id] = entry;
      this.#reconciler.handedOver(id);
    }
    for (const { id, request: start } of claimed.filter((workload) => this.#mayRun(workload))) {
      const credentials = await mint(id, start);
      room -= Buffer.byteLength(JSON.stringify(credentials));
      if (room < 0) break;
      renewals[id] = credentials;
    }
    this.#reconciler.poke();
    return { existing, renewals };
  }

  /** Whether it is a job that must not be started a second time, though it may run. */
  #mayRun(workload: DesiredWorkload): boolean {
    const { request, progress } = workload;
    return request.workload_lifecycle === 'job' && progress !== 'starting' && !this.#reconciler.isToRun(workload);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reconciler[Symbol.asyncDispose]();
    await this.#options.state.flush();
  }

  /** What cannot be stored now is stored later. */
  async #attempt(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#node.logger.error({ err: error }, 'desired state could not be stored; it is tried again');
    }
  }
}
