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
/**
 * A heartbeat may have been made before a deployment was answered, and be heard after it: for so long, in milliseconds,
 * a smaller number in it is not believed.
 */
const COUNT_DELAY = 250;

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
  /** How many workloads it has, including those whose deployment is under way. */
  load: number;
  /** Deployments that wait for an answer. */
  inFlight: number;
  /** When the last deployment was answered. */
  deployed: number;
  /** Whether it said goodbye. */
  leaving: boolean;
}

/** What the registry tells of: the nexlet that became healthy, said that it ends, or shows another state or load. */
interface RegistryEvents {
  changed: [agentId: string];
  healthy: [agentId: string];
  leaving: [agent: Agent];
}

/** The nexlets that registered with a node, and how they are. */
export class AgentRegistry implements Disposable {
  readonly #nc: NatsConnection;
  readonly #nodeId: string;
  readonly #logger: Logger;
  readonly #entries = new Map<string, Entry>();
  readonly events = new EventEmitter<RegistryEvents>();

  constructor(nc: NatsConnection, { nodeId, logger }: { nodeId: string; logger: Logger }) {
    this.#nc = nc;
    this.#nodeId = nodeId;
    this.#logger = logger;
    // One listener for each nexlet that is waited for.
    this.events.setMaxListeners(0);
  }

  /**
   * Takes a nexlet in and listens to its heartbeats. A nexlet may register again (with the same xkey), and take the
   * place of a dead one; `refused` when its id belongs to another one that is alive.
   */
  register(id: string, request: RegisterAgentRequest, schema: RunRequestSchema): 'new' | 'again' | 'refused' {
    this.#forgetDead();
    const old = this.#entries.get(id);
    if (old !== undefined && old.request.public_xkey === request.public_xkey) {
      const known = this.health(old) !== 'offline' && !old.leaving;
      Object.assign(old, { request, schema, seen: Date.now(), leaving: false });
      return known ? 'again' : 'new';
    }
    if (old !== undefined && !['offline', 'shutting down'].includes(this.health(old))) return 'refused';
    old?.subscription.unsubscribe();
    const subscription = this.#nc.subscribe(agentSubjects.heartbeat(this.#nodeId, id), {
      callback: (error, msg) => {
        if (error === null) this.#heartbeat(id, msg);
        else this.#logger.error({ err: error, agentId: id }, 'heartbeats of a nexlet cannot be heard');
      },
    });
    const counts = { load: 0, inFlight: 0, deployed: 0 };
    const fresh = { summary: undefined, lastHeartbeat: undefined, leaving: false, ...counts };
    this.#entries.set(id, { id, request, schema, subscription, seen: Date.now(), ...fresh });
    return 'new';
  }

  /** Forgets a nexlet that has ended. */
  remove(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (!entry.subscription.isClosed()) entry.subscription.unsubscribe();
    this.#entries.delete(id);
  }

  /** Whether a nexlet has said that it ends, and not registered again. */
  isLeaving(agent: Agent): boolean {
    return this.#entries.get(agent.id)?.leaving === true;
  }

  /** Takes a nexlet for dead until it is heard again: nobody listens where it should. */
  lost(agent: Agent): void {
    const entry = this.#entries.get(agent.id);
    if (entry !== undefined) entry.seen = Math.min(entry.seen, Date.now() - HEALTHY_WINDOW - 1);
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

  /** The healthy nexlets of a type that have room for one more workload, the least loaded one first. */
  available(type: string): Agent[] {
    return this.#ofType(type)
      .filter((entry) => this.isAvailable(entry))
      .sort((a, b) => a.load - b.load);
  }

  /** Whether a nexlet is healthy and has room for one more workload. */
  isAvailable(agent: Agent): boolean {
    const entry = this.#entries.get(agent.id);
    return entry !== undefined && this.health(entry) === 'healthy' && hasRoom(entry);
  }

  /** Why no nexlet of a type is available: a text that completes "the node …". */
  whyNone(type: string): string {
    const entries = this.#ofType(type);
    const healthy = entries.filter((entry) => this.health(entry) === 'healthy');
    const [full] = healthy;
    if (full !== undefined) return `is full: ${full.load} of ${full.request.max_workloads} workloads of type "${type}"`;
    const [entry] = entries.sort((a, b) => b.seen - a.seen);
    if (entry === undefined) return `has no nexlet of type "${type}"`;
    const health = this.health(entry);
    return `has a nexlet of type "${type}", but it is ${health === 'unknown' ? 'not ready yet' : health}`;
  }

  /** How many workloads all nexlets that are alive have, including those whose deployment is under way. */
  get workloads(): number {
    return [...this.#entries.values()]
      .filter((entry) => this.health(entry) !== 'offline')
      .reduce((sum, entry) => sum + entry.load, 0);
  }

  /** How many workloads a nexlet has. */
  workloadsOf(agent: Agent): number {
    return this.#entries.get(agent.id)?.load ?? 0;
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

  /**
   * Counts a deployment against the limits until heartbeats do. Call the result when it was answered: whether the
   * workload was started.
   */
  countDeployment(agent: Agent): (started: boolean) => void {
    const entry = this.#entries.get(agent.id);
    if (entry === undefined) return () => undefined;
    entry.inFlight++;
    entry.load++;
    return (started) => {
      entry.inFlight--;
      entry.deployed = Date.now();
      if (!started) entry.load--;
    };
  }

  /** Resolves with the first heartbeat that shows the nexlet healthy. Rejects when aborted. */
  async untilHealthy(id: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const entry = this.#entries.get(id);
      if (entry !== undefined && this.health(entry) === 'healthy') return;
      await once(this.events, 'healthy', { signal });
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
      const { state, workload_count: count } = entry.summary ?? {};
      if (state !== summary.state || count !== summary.workload_count) this.events.emit('changed', id);
      const now = Date.now();
      Object.assign(entry, { summary, seen: now, lastHeartbeat: now });
      const counted = summary.workload_count;
      const settled = entry.inFlight === 0 && now - entry.deployed > COUNT_DELAY;
      entry.load = settled ? counted : Math.max(entry.load, counted);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#logger.warn({ err: error, agentId: id }, 'unusable heartbeat');
      return;
    }
    if (this.health(entry) === 'healthy') this.events.emit('healthy', id);
    if (entry.summary?.state !== 'stopping' || entry.leaving) return;
    entry.leaving = true;
    this.events.emit('leaving', entry);
  }

  #ofType(type: string): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.request.register_type === type);
  }

  #forgetDead(): void {
    for (const entry of this.#entries.values()) {
      if (Date.now() - entry.seen > FORGET_AFTER) this.remove(entry.id);
    }
  }
}

function hasRoom({ request: { max_workloads: max }, load }: Entry): boolean {
  return max <= 0 || load < max;
}
