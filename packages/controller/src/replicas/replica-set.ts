import type { WorkloadSummary } from '@nex-nix/protocol';
import type { ReplicaStatus } from '../deployments/status.ts';
import { readLabels } from './labels.ts';
import type { Observation } from './observation.ts';
import type { Candidate } from './plan.ts';

export interface ReplicaTimings {
  /** A replica is taken for lost when its node has not answered for this time, in milliseconds. */
  lostAfterMs: number;
  /** A replica that its node does not list any more has ended after this time: nodes that restart list little. */
  endedAfterMs: number;
}

/** What became of a replica, unasked for. */
export interface Incident {
  readonly id: string;
  readonly revision: number;
  /** `lost` is the fault of its node, the rest its own. */
  readonly kind: 'failed' | 'ended' | 'restarted' | 'late' | 'lost';
  /** Completes "replica <id> …". */
  readonly what: string;
}

interface Replica {
  readonly id: string;
  readonly revision: number;
  node: string | undefined;
  present: boolean;
  failed: boolean;
  stopping: boolean;
  reason: string | undefined;
  restarts: string | undefined;
  /** Monotonic times, in milliseconds. */
  readonly since: number;
  runningSince: number | undefined;
  idleSince: number;
  seen: number;
  /** Since when complete lists do not have it. */
  absentSince: number | undefined;
}

/** The replicas of one deployment, put together from what nodes list and what was started. */
export class ReplicaSet {
  readonly #name: string;
  readonly #uid: string;
  readonly #timings: ReplicaTimings;
  readonly #replicas = new Map<string, Replica>();
  #nodes: Observation['nodes'] = new Map();

  constructor({ name, uid }: { name: string; uid: string }, timings: ReplicaTimings) {
    this.#name = name;
    this.#uid = uid;
    this.#timings = timings;
  }

  /** What another controller knew of. Of those on `lapsed`, a node that ended with its controller, no sign is waited for. */
  inherit(replicas: readonly ReplicaStatus[], { now, lapsed }: { now: number; lapsed: string | undefined }): void {
    for (const { id, revision, node, state } of replicas) {
      if (state === 'failed' || state === 'stopping') continue;
      const seen = lapsed !== undefined && node === lapsed ? now - this.#timings.lostAfterMs : now;
      this.#add(id, { revision, node, now: seen });
    }
  }

  /** A node has accepted a replica. */
  started(id: string, { revision, node }: { revision: number; node: string | undefined }): void {
    const known = this.#replicas.get(id);
    if (known === undefined) this.#add(id, { revision, node, now: performance.now() });
    else known.node ??= node;
  }

  /** It was told to stop. */
  stopping(id: string): void {
    const replica = this.#replicas.get(id);
    if (replica !== undefined) replica.stopping = true;
  }

  /** How the stop went: it is gone, or goes on. */
  stopped(id: string, gone: boolean): void {
    const replica = this.#replicas.get(id);
    if (gone) this.#replicas.delete(id);
    else if (replica !== undefined) replica.stopping = false;
  }

  /** Takes in what the nodes say. `starts` hears of each start that a listed replica comes from. */
  observe(
    observation: Observation,
    { startTimeoutMs, onStart }: { startTimeoutMs: number; onStart: (start: string) => void },
  ): Incident[] {
    const now = performance.now();
    this.#nodes = observation.nodes;
    const listed = new Set<string>();
    const incidents: Incident[] = [];
    for (const summary of observation.workloads) {
      const labels = readLabels(summary.tags);
      if (labels === undefined || labels.deployment !== this.#name || listed.has(summary.id)) continue;
      listed.add(summary.id);
      const own = labels.uid === this.#uid;
      if (own) onStart(labels.start);
      const replica =
        this.#replicas.get(summary.id) ?? this.#add(summary.id, { revision: own ? labels.revision : 0, now });
      incidents.push(...update(replica, summary, now));
    }
    for (const replica of this.#replicas.values()) {
      if (!listed.has(replica.id)) incidents.push(...this.#missed(replica, observation, now));
      else if (isLate(replica, now, startTimeoutMs)) {
        replica.failed = true;
        replica.reason = `did not run within ${startTimeoutMs / 1000} s`;
        incidents.push({ ...replica, kind: 'late', what: replica.reason });
      }
    }
    return incidents;
  }

  /** For a plan; `stableMs`: how long a replica has to run to count as stable. */
  candidates(stableMs: number): Candidate[] {
    const now = performance.now();
    return [...this.#replicas.values()].map(({ id, revision, node, present, failed, stopping, runningSince }) => ({
      id,
      revision,
      node,
      present,
      failed,
      stopping,
      running: runningSince !== undefined,
      stable: runningSince !== undefined && now - runningSince >= stableMs,
      leaving: node !== undefined && ['lameduck', 'stopping'].includes(this.#nodes.get(node)?.state ?? ''),
    }));
  }

  /** For the status. */
  describe(): ReplicaStatus[] {
    return [...this.#replicas.values()]
      .map((replica) => ({
        id: replica.id,
        revision: replica.revision,
        ...(replica.node === undefined ? {} : { node: replica.node }),
        state: stateOf(replica),
        ...(replica.reason === undefined ? {} : { reason: replica.reason }),
      }))
      .sort((a, b) => a.revision - b.revision || (a.id < b.id ? -1 : 1));
  }

  /** Whether something of it is missing from the last list. */
  get unsettled(): boolean {
    return [...this.#replicas.values()].some(({ present, runningSince }) => !present || runningSince === undefined);
  }

  /** Whether a node of the last observation has none of `replicas`. */
  hasNodesWithout(replicas: readonly Candidate[]): boolean {
    return [...this.#nodes.values()].some(
      ({ node_id: node, state }) => state === 'running' && !replicas.some((replica) => replica.node === node),
    );
  }

  #add(id: string, { revision, node, now }: { revision: number; node?: string | undefined; now: number }): Replica {
    const replica: Replica = {
      id,
      revision,
      node,
      present: false,
      failed: false,
      stopping: false,
      reason: undefined,
      restarts: undefined,
      since: now,
      runningSince: undefined,
      idleSince: now,
      seen: now,
      absentSince: undefined,
    };
    this.#replicas.set(id, replica);
    return replica;
  }

  /** A replica is in no list: it has ended, or its node does not answer. */
  #missed(replica: Replica, { at, nodes, complete }: Observation, now: number): Incident[] {
    // It was accepted after the question went out.
    if (replica.seen > at) return [];
    replica.present = false;
    const answered = replica.node === undefined ? nodes.size > 0 : nodes.get(replica.node)?.state === 'running';
    replica.absentSince = complete && answered ? (replica.absentSince ?? at) : undefined;
    const ended = replica.absentSince !== undefined && now - replica.absentSince >= this.#timings.endedAfterMs;
    // Where the node is not known, it may be one that is gone.
    const lost = now - replica.seen >= this.#timings.lostAfterMs;
    if (!(replica.node === undefined ? lost : ended || lost)) return [];
    this.#replicas.delete(replica.id);
    if (replica.stopping || replica.failed) return [];
    if (ended) return [{ ...replica, kind: 'ended', what: 'is not there any more' }];
    return [{ ...replica, kind: 'lost', what: `is lost: node ${replica.node ?? 'unknown'} does not answer` }];
  }
}

function update(replica: Replica, { workload_state: state, metadata }: WorkloadSummary, now: number): Incident[] {
  const { restarts, reason, node_id: node } = metadata ?? {};
  const ran = replica.runningSince !== undefined && replica.present;
  const running = state === 'running' || state === 'warm';
  const restarted = replica.restarts !== undefined && restarts !== replica.restarts;
  const failedBefore = replica.failed;
  Object.assign(replica, { present: true, seen: now, absentSince: undefined, node: node ?? replica.node, restarts });
  if (!running || restarted) {
    if (replica.runningSince !== undefined) replica.idleSince = now;
    replica.runningSince = undefined;
  }
  if (running) replica.runningSince ??= now;
  replica.failed ||= state === 'stopped' || state === 'error';
  if (!running || failedBefore) replica.reason = reason ?? replica.reason;
  if (replica.stopping || failedBefore) return [];
  const because = reason === undefined ? '' : `: ${reason}`;
  if (replica.failed) {
    const how = ran ? 'ended' : state === 'error' ? 'did not start' : 'ended';
    return [{ ...replica, kind: 'failed', what: `${how}${because}` }];
  }
  // Also of one that was never seen running, because it ended before anybody looked.
  if ((ran && !running) || restarted)
    return [{ ...replica, kind: 'restarted', what: `ended and was restarted${because}` }];
  return [];
}

function isLate({ failed, stopping, runningSince, idleSince }: Replica, now: number, timeoutMs: number): boolean {
  return !failed && !stopping && runningSince === undefined && now - idleSince > timeoutMs;
}

function stateOf({ stopping, failed, present, runningSince }: Replica): ReplicaStatus['state'] {
  if (stopping) return 'stopping';
  if (failed) return 'failed';
  if (runningSince !== undefined) return present ? 'running' : 'absent';
  return present ? 'starting' : 'absent';
}
