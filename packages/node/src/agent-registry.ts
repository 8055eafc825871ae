import { EventEmitter, once } from 'node:events';
import type { Msg, NatsConnection, Subscription } from '@nats-io/nats-core';
import {
  AgentHeartbeat,
  type AgentHealth,
  agentSubjects,
  type AgentSummary,
  GO_ZERO_TIME,
  type NodeAgentSummary,
  ProtocolError,
  type RegisterAgentRequest,
  type RunRequestSchema,
} from '@nex-nix/protocol';
import type { Logger } from '@nex-nix/nexlet';

/** A nexlet that was silent for longer is taken for dead, in milliseconds. */
const HEALTHY_WINDOW = 30_000;
/** The dead are forgotten after this time, in milliseconds. */
const FORGET_AFTER = 3_600_000;

const STOPLIGHTS = {
  healthy: '🟢',
  'shutting down': '🟠',
  degraded: '🟡',
  offline: '🔴',
  unknown: '⚪️',
} as const satisfies Record<AgentHealth, string>;

const NO_SUMMARY: AgentSummary = {
  name: '',
  start_time: GO_ZERO_TIME,
  state: '',
  supported_lifecycles: '',
  type: '',
  version: '',
  workload_count: 0,
};

/** One nexlet of a node. */
export interface Agent {
  readonly id: string;
  readonly request: RegisterAgentRequest;
  readonly schema: RunRequestSchema;
  /** What its last heartbeat said; undefined before the first. */
  readonly summary: AgentSummary | undefined;
}

interface Entry extends Agent {
  request: RegisterAgentRequest;
  schema: RunRequestSchema;
  summary: AgentSummary | undefined;
  subscription: Subscription;
  seen: number;
  lastHeartbeat: number | undefined;
  /** Deployments that wait for an answer. */
  inFlight: number;
  /** Deployments that the last heartbeat does not know of. */
  uncounted: number;
}

/** The nexlets that registered with a node, and how they are. */
export class AgentRegistry implements Disposable {
  readonly #nc: NatsConnection;
  readonly #nodeId: string;
  readonly #logger: Logger;
  readonly #entries = new Map<string, Entry>();
  readonly #heartbeats = new EventEmitter();

  constructor(nc: NatsConnection, { nodeId, logger }: { nodeId: string; logger: Logger }) {
    this.#nc = nc;
    this.#nodeId = nodeId;
    this.#logger = logger;
  }

  /**
   * Takes a nexlet in and listens to its heartbeats. A nexlet may register again (with the same xkey), and take the
   * place of a dead one; false when its id belongs to another one that is alive.
   */
  register(id: string, request: RegisterAgentRequest, schema: RunRequestSchema): boolean {
    this.#forgetDead();
    const old = this.#entries.get(id);
    if (old !== undefined && old.request.public_xkey === request.public_xkey) {
      Object.assign(old, { request, schema, seen: Date.now() });
      return true;
    }
    if (old !== undefined && !['offline', 'shutting down'].includes(this.health(old))) return false;
    old?.subscription.unsubscribe();
    const subscription = this.#nc.subscribe(agentSubjects.heartbeat(this.#nodeId, id), {
      callback: (error, msg) => {
        if (error === null) this.#heartbeat(id, msg);
        else this.#logger.error({ err: error, agentId: id }, 'heartbeats of a nexlet cannot be heard');
      },
    });
    const fresh = { summary: undefined, lastHeartbeat: undefined, inFlight: 0, uncounted: 0 };
    this.#entries.set(id, { id, request, schema, subscription, seen: Date.now(), ...fresh });
    return true;
  }

  get(id: string): Agent | undefined {
    return this.#entries.get(id);
  }

  all(): Agent[] {
    return [...this.#entries.values()];
  }

  /** Those that may answer. */
  alive(): Agent[] {
    return this.all().filter((agent) => this.health(agent) !== 'offline');
  }

  /** A healthy nexlet of a type that has room for one more workload, the least loaded one. */
  available(type: string): Agent | undefined {
    const candidates = [...this.#entries.values()].filter(
      (entry) => entry.request.register_type === type && this.isAvailable(entry),
    );
    return candidates.sort((a, b) => load(a) - load(b))[0];
  }

  /** Whether a nexlet is healthy and has room for one more workload. */
  isAvailable(agent: Agent): boolean {
    const entry = this.#entries.get(agent.id);
    if (entry === undefined || this.health(entry) !== 'healthy') return false;
    const { max_workloads: max } = entry.request;
    return max <= 0 || load(entry) < max;
  }

  health(agent: Agent): AgentHealth {
    const entry = this.#entries.get(agent.id);
    if (entry === undefined || Date.now() - entry.seen > HEALTHY_WINDOW) return 'offline';
    switch (entry.summary?.state) {
      case 'running':
        return 'healthy';
      case 'starting':
      case 'error':
        return 'degraded';
      case 'stopping':
      case 'lameduck':
        return 'shutting down';
      case undefined:
      default:
        return 'unknown';
    }
  }

  /** How INFO shows a nexlet. */
  describe(agent: Agent): NodeAgentSummary {
    const health = this.health(agent);
    const last = this.#entries.get(agent.id)?.lastHeartbeat;
    return {
      agent_health: health,
      agent_health_stoplight: STOPLIGHTS[health],
      agent_id: agent.id,
      agent_last_heartbeat_time: last === undefined ? GO_ZERO_TIME : new Date(last).toISOString(),
      agent_summary: agent.summary ?? NO_SUMMARY,
    };
  }

  /** Counts a deployment against the nexlet's limit until its heartbeats do. Call the result when it was answered. */
  countDeployment(agent: Agent): () => void {
    const entry = this.#entries.get(agent.id);
    if (entry === undefined) return () => undefined;
    entry.inFlight++;
    entry.uncounted++;
    return () => {
      entry.inFlight--;
    };
  }

  /** Resolves with the first heartbeat that shows the nexlet healthy. Rejects when aborted. */
  async untilHealthy(id: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const entry = this.#entries.get(id);
      if (entry !== undefined && this.health(entry) === 'healthy') return;
      await once(this.#heartbeats, id, { signal });
    }
  }

  [Symbol.dispose](): void {
    for (const { subscription } of this.#entries.values()) {
      if (!subscription.isClosed()) subscription.unsubscribe();
    }
  }

  #heartbeat(id: string, msg: Msg): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    try {
      const { summary } = AgentHeartbeat.decode(msg.data, msg.subject);
      const now = Date.now();
      Object.assign(entry, { summary, seen: now, lastHeartbeat: now });
      entry.uncounted = entry.inFlight;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#logger.warn({ err: error, agentId: id }, 'unusable heartbeat');
      return;
    }
    this.#heartbeats.emit(id);
  }

  #forgetDead(): void {
    for (const entry of this.#entries.values()) {
      if (Date.now() - entry.seen < FORGET_AFTER) continue;
      entry.subscription.unsubscribe();
      this.#entries.delete(entry.id);
    }
  }
}

function load(entry: Entry): number {
  return (entry.summary?.workload_count ?? 0) + entry.uncounted;
}
