import { type NexClient, ProtocolError } from '@nex-nix/protocol';
import { isNexError } from '@nex-nix/errors';
import { ControllerError } from '../controller-error.ts';
import { type Deployment, revisionOf } from '../deployments/deployment.ts';
import type { DeploymentStatus, Phase } from '../deployments/status.ts';
import type { Term } from '../lease/term.ts';
import type { Logger } from '../logger.ts';
import type { Observation } from '../replicas/observation.ts';
import { type Candidate, type Goal, type Plan, planReplicas } from '../replicas/plan.ts';
import { type Incident, ReplicaSet, type ReplicaTimings } from '../replicas/replica-set.ts';
import type { Entry } from '../store/json-bucket.ts';
import type { Stores } from '../store/stores.ts';
import { Backoff } from './backoff.ts';
import { PendingStarts } from './pending-starts.ts';
import { describeSituation, phaseOf, type Situation } from './situation.ts';
import { mayHaveStarted, mayPass, type StartParts, startReplica } from './starter.ts';
import { StatusWriter } from './status-writer.ts';

/** Failures are forgotten when all replicas have run for this time, in milliseconds. */
const STEADY_AFTER = 60_000;
/** The longest wait after replicas that failed, and after nodes that could not take one, in milliseconds. */
const MAX_CRASH_WAIT = 60_000;
const MAX_PLACE_WAIT = 10_000;

export interface ReconcilerParts extends Omit<StartParts, 'keys'> {
  readonly client: NexClient;
  readonly stores: Stores;
  readonly controllerId: string;
  readonly term: Term;
  /** A start whose answer was lost counts as a replica for this time, in milliseconds: longer than a bid holds. */
  readonly unknownStartMs: number;
  readonly timings: ReplicaTimings;
  readonly logger: Logger;
  /** Asks for a look at the nodes soon. */
  readonly wake: () => void;
}

/** Brings the replicas of one deployment to what is wanted, for one term of office. */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #set: ReplicaSet;
  readonly #status: StatusWriter;
  readonly #logger: Logger;
  readonly #starts: PendingStarts;
  readonly #work = new Set<Promise<void>>();
  readonly #backoff: Backoff;
  #deployment: Deployment;
  /** The revision that ran last in all replicas. */
  #current: number | undefined;
  #failed: DeploymentStatus['failed'];
  #error: { message: string; final: boolean } | undefined;
  /** Since when nodes refuse a new revision for reasons that may pass. */
  #unplacedSince: number | undefined;
  #steadySince: number | undefined;
  #nodes = '';
  #starting = false;
  #observed = false;

  constructor(parts: ReconcilerParts, deployment: Deployment, found: Entry<DeploymentStatus> | undefined) {
    this.#parts = parts;
    this.#deployment = deployment;
    this.#logger = parts.logger.child({ deployment: deployment.name, namespace: deployment.namespace });
    this.#set = new ReplicaSet(deployment, parts.timings);
    this.#status = new StatusWriter(parts.stores.statuses, { key: parts.key, term: parts.term, found });
    const status = found?.value.uid === deployment.uid ? found.value : undefined;
    this.#starts = new PendingStarts(status?.starts);
    this.#backoff = new Backoff(status?.failures);
    if (status === undefined) return;
    this.#current = status.revision;
    this.#failed = status.failed;
    if (status.error !== undefined) this.#error = { message: status.error, final: false };
    this.#set.inherit(status.replicas, { now: performance.now(), lapsed: parts.term.lapsed });
  }

  get deployment(): Deployment {
    return this.#deployment;
  }

  /** Something is under way, or missing: the nodes should be asked more often. */
  get busy(): boolean {
    return this.#starts.size > 0 || this.#set.unsettled || ['progressing', 'removing'].includes(this.#phase());
  }

  /** What is wanted has changed. */
  change(deployment: Deployment): void {
    if (deployment.attempt !== this.#deployment.attempt) {
      this.#backoff.reset();
      this.#error = undefined;
      this.#unplacedSince = undefined;
    }
    this.#deployment = deployment;
  }

  /** Takes in what the nodes say, and takes the next step. Resolves when the status is stored. */
  async observe(observation: Observation): Promise<void> {
    this.#observed = true;
    const { startTimeoutMs } = this.#deployment.policy;
    const onStart = (start: string) => this.#starts.found(start);
    const failures = this.#set.observe(observation, { startTimeoutMs, onStart }).filter((found) => this.#notice(found));
    // What goes at the same time, as all replicas of a node do, is one failure.
    if (failures.length > 0) this.#backoff.fail(MAX_CRASH_WAIT);
    this.#starts.forget(this.#parts.unknownStartMs);
    const nodes = [...observation.nodes.keys()].sort().join();
    if (nodes !== this.#nodes) this.#retryPlacing();
    this.#nodes = nodes;
    await this.#advance();
  }

  /** Resolves when nothing of it is under way any more; the term has ended by then. */
  async finish(): Promise<void> {
    await Promise.all(this.#work);
  }

  /** One plan, carried out: stops go at once, starts one after the other, so that each sees where the last one went. */
  async #advance(): Promise<void> {
    if (!this.#observed || this.#parts.term.signal.aborted) return;
    this.#conclude();
    const goal = this.#goal();
    const plan = this.#plan(goal);
    for (const id of plan.stop) this.#run(this.#stop(id));
    if (plan.start > 0 && !this.#starting && this.#backoff.remaining === 0) this.#run(this.#start(goal.revision));
    await this.#writeStatus();
  }

  #plan(goal: Goal): Plan {
    const starts = this.#starts.list();
    const own = starts.filter(({ revision }) => revision === goal.revision).length;
    return planReplicas(goal, this.#candidates(), { goal: own, other: starts.length - own });
  }

  #candidates(): Candidate[] {
    return this.#set.candidates(this.#deployment.policy.stableMs);
  }

  #goal(): Goal {
    const { replicas, revision, removed, policy } = this.#deployment;
    const wanted = removed === undefined ? replicas : 0;
    const { maxSurge } = policy;
    // Without one that is known to run there is nothing to go back to.
    if (this.#hasFailed() && this.#current !== undefined && this.#current !== revision) {
      return { revision: this.#current, wanted, maxSurge, proving: false };
    }
    const proving = this.#current !== undefined && this.#current !== revision && removed === undefined;
    return { revision, wanted, maxSurge, proving };
  }

  #hasFailed(): boolean {
    return this.#failed !== undefined && this.#failed.attempt === this.#deployment.attempt;
  }

  /** Notes what has been reached. */
  #conclude(): void {
    const goal = this.#goal();
    const replicas = this.#candidates();
    const targets = replicas.filter(
      ({ revision, stopping, failed }) => revision === goal.revision && !stopping && !failed,
    );
    const stable = targets.filter(({ stable, present }) => stable && present).length;
    if (this.#current !== goal.revision && stable >= goal.wanted && this.#deployment.removed === undefined) {
      this.#logger.info({ revision: goal.revision, replicas: goal.wanted }, 'revision runs');
      this.#current = goal.revision;
      this.#unplacedSince = undefined;
    }
    const steady = stable >= goal.wanted;
    this.#steadySince = steady ? (this.#steadySince ?? performance.now()) : undefined;
    if (this.#steadySince !== undefined && performance.now() - this.#steadySince >= STEADY_AFTER) {
      this.#backoff.reset();
      if (this.#error?.final === false) this.#error = undefined;
    }
  }

  /** Whether it is a failure of the wanted revision, which is not given up for it. */
  #notice({ id, revision, kind, what }: Incident): boolean {
    const message = `replica ${id} of revision ${revision} ${what}`;
    this.#logger.warn({ workloadId: id, revision, kind }, message);
    const goal = this.#goal();
    if (kind === 'lost' || revision !== goal.revision || this.#deployment.removed !== undefined) return false;
    if (goal.proving) {
      this.#giveUp(message);
      return false;
    }
    this.#error = { message, final: false };
    return true;
  }

  /** The wanted revision does not work: the one before is kept. */
  #giveUp(reason: string): void {
    const { attempt, revision } = this.#deployment;
    this.#logger.warn({ revision, back: this.#current, reason }, 'roll-out failed: rolling back');
    this.#failed = { attempt, revision, reason };
    this.#unplacedSince = undefined;
    this.#backoff.reset();
  }

  async #start(number: number): Promise<void> {
    this.#starting = true;
    const { id, found } = this.#starts.begin(number);
    try {
      // Whoever takes over knows of the start before it is made.
      await this.#writeStatus();
      const placed = await this.#place(id, number, AbortSignal.any([this.#parts.term.signal, found]));
      this.#set.started(placed.id, { revision: number, node: placed.nodeId });
      this.#starts.end(id);
      this.#unplacedSince = undefined;
      if (this.#error?.final === true) this.#error = undefined;
      this.#logger.info({ workloadId: placed.id, revision: number, nodeId: placed.nodeId }, 'replica started');
    } catch (error) {
      // Unless a node has listed the replica meanwhile.
      if (this.#starts.has(id)) {
        if (mayHaveStarted(error)) this.#starts.giveUp(id);
        else this.#starts.end(id);
        this.#startFailed(error);
      }
    } finally {
      this.#starting = false;
    }
    this.#parts.wake();
    await this.#advance();
  }

  async #place(start: string, number: number, signal: AbortSignal) {
    const revision = revisionOf(this.#deployment, number);
    if (revision === undefined) {
      throw new ControllerError(
        'DEPLOYMENT_REVISION_NOT_FOUND',
        `Cannot start revision ${number}: it is not kept any more`,
      );
    }
    const siblings = this.#candidates().filter((replica) => replica.revision === number && !replica.failed);
    const spread = this.#deployment.strategy === 'spread' && this.#set.hasNodesWithout(siblings);
    const avoid = spread ? [...new Set(siblings.flatMap(({ node }) => node ?? []))] : [];
    const deployment = this.#deployment;
    const parts = { ...this.#parts, keys: this.#parts.stores.keys };
    return startReplica(parts, { deployment, revision, start, avoid, signal });
  }

  #startFailed(error: unknown): void {
    if (this.#parts.term.signal.aborted) return;
    const message = error instanceof Error ? error.message : String(error);
    if (!isNexError(error)) this.#logger.error({ err: error }, 'replica could not be started');
    else this.#logger.warn({ code: error.code }, message);
    const passing = mayPass(error) || (error instanceof ControllerError && error.kind === 'unreachable');
    if (this.#goal().proving) {
      this.#unplacedSince ??= performance.now();
      const patience = this.#deployment.policy.startTimeoutMs;
      if (!passing || performance.now() - this.#unplacedSince >= patience) return this.#giveUp(message);
    }
    this.#backoff.fail(passing ? MAX_PLACE_WAIT : MAX_CRASH_WAIT);
    this.#error = { message, final: !passing };
  }

  async #stop(id: string): Promise<void> {
    const { client, term } = this.#parts;
    const { namespace } = this.#deployment;
    this.#set.stopping(id);
    try {
      await client.stopWorkload(id, { namespace, signal: term.signal });
      this.#set.stopped(id, true);
      this.#logger.info({ workloadId: id }, 'replica stopped');
    } catch (error) {
      const gone = error instanceof ProtocolError && error.code === 'NEX_WORKLOAD_NOT_FOUND';
      this.#set.stopped(id, gone);
      if (!gone && !term.signal.aborted)
        this.#logger.warn({ err: error, workloadId: id }, 'replica could not be stopped');
    }
    this.#parts.wake();
  }

  /** Nodes came or went: what could not be placed may find its place now. */
  #retryPlacing(): void {
    if (this.#error?.final === false && this.#backoff.failures > 0) this.#backoff.retry();
  }

  #phase(): Phase {
    return phaseOf(this.#situation());
  }

  #situation(): Situation {
    return {
      deployment: this.#deployment,
      goal: this.#goal(),
      observed: this.#observed,
      candidates: this.#candidates(),
      starts: this.#starts.list(),
      current: this.#current,
      failed: this.#failed,
      rolledBack: this.#hasFailed() && this.#current !== this.#deployment.revision,
      failures: this.#backoff.failures,
      error: this.#error,
    };
  }

  #writeStatus(): Promise<void> {
    return this.#status.write(() => this.#describe());
  }

  #describe(): Omit<DeploymentStatus, 'updated'> {
    const { controllerId: controller, term } = this.#parts;
    return { controller, term: term.id, ...describeSituation(this.#situation(), this.#set.describe()) };
  }

  /** Owns a piece of work. What goes wrong in it with the store is tried again at the next look. */
  #run(work: Promise<void>): void {
    const owned = work.catch((error: unknown) => {
      if (!this.#parts.term.signal.aborted) this.#logger.warn({ err: error }, 'a step could not be finished');
    });
    this.#work.add(owned);
    void owned.finally(() => this.#work.delete(owned));
  }
}
