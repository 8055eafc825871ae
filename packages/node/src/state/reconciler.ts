import { setTimeout as delay } from 'node:timers/promises';
import {
  agentSubjects,
  feedSubjects,
  gather,
  ListWorkloadsRequest,
  ProtocolError,
  readErrorReply,
  readReply,
  SYSTEM_NAMESPACE,
  WorkloadSummaries,
  type WorkloadSummary,
} from '@nex-nix/protocol';
import type { Agent } from '../agents/agent-registry.ts';
import type { NodeContext } from '../node-context.ts';
import { Backoff } from './backoff.ts';
import type { DesiredWorkloadsOptions } from './desired-workloads.ts';
import type { DesiredWorkload } from './desired-workload.ts';
import type { Owners } from './owners.ts';
import { planReconcile, type Step } from './reconcile-plan.ts';

/** How long nexlets may take to say what they run, in milliseconds. */
const ASK_TIMEOUT = 2_000;
/** Changes that come within this time are looked at together, in milliseconds. */
const GATHER_CHANGES = 200;
/** Workloads that are started at once. */
const STARTS_AT_ONCE = 8;

/**
 * Compares what nexlets run with what they should run, when something changed and now and then, and brings the two
 * together. Never two of one workload: each is worked on by one at a time, and started only when every nexlet has said
 * that it does not have it.
 */
export class Reconciler implements AsyncDisposable {
  readonly #node: NodeContext;
  readonly #options: DesiredWorkloadsOptions & { readonly owners: Owners };
  /** How many are at work on a workload. */
  readonly #busy = new Map<string, number>();
  /** When a nexlet was last told to run a workload; it may take a moment to list it. */
  readonly #told = new Map<string, number>();
  /** The nexlet that accepted a workload, by workload. */
  readonly #placed = new Map<string, string>();
  readonly #backoff = new Backoff();
  /** What the last comparison saw alive. */
  #listed: ReadonlySet<string> = new Set();
  #missing: ReadonlyMap<string, string> = new Map();
  readonly #abort = new AbortController();
  #wake = Promise.withResolvers<void>();
  #loop: Promise<void> | undefined;
  #incomplete = false;

  constructor(node: NodeContext, options: DesiredWorkloadsOptions & { readonly owners: Owners }) {
    this.#node = node;
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  poke(): void {
    this.#wake.resolve();
  }

  /** Keeps the comparison away from a workload until disposed of. */
  busyWith(id: string): Disposable {
    this.#busy.set(id, (this.#busy.get(id) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const others = (this.#busy.get(id) ?? 0) - 1;
        if (others > 0) this.#busy.set(id, others);
        else this.#busy.delete(id);
      },
    };
  }

  /** A nexlet has accepted a workload. */
  placed(id: string, agent: Agent): void {
    this.#placed.set(id, agent.id);
    this.#told.set(id, Date.now());
  }

  /** A nexlet that registers is told of a workload. */
  handedOver(id: string): void {
    this.#told.set(id, Date.now());
  }

  /** What should run and does not, by id, with the reason. */
  get missing(): ReadonlyMap<string, string> {
    return this.#missing;
  }

  /** Whether a nexlet that registers is to have it: jobs run once, and what nobody was promised does not run at all. */
  isToRun({ id, request, progress }: DesiredWorkload): boolean {
    if (progress === 'starting' || this.#busy.has(id)) return false;
    if (request.workload_lifecycle !== 'job') return true;
    return progress === 'accepted' && !this.#placed.has(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    this.#wake.resolve();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const timer = setTimeout(() => this.#wake.resolve(), this.#options.intervalMs);
      await this.#wake.promise;
      clearTimeout(timer);
      try {
        await delay(GATHER_CHANGES, undefined, { signal });
        this.#wake = Promise.withResolvers<void>();
        await this.#options.state.flush();
        await this.#compare();
      } catch (error) {
        if (signal.aborted) return;
        this.#node.logger.error({ err: error }, 'desired and running workloads could not be compared');
      }
    }
  }

  async #compare(): Promise<void> {
    const { state } = this.#options;
    if (this.#node.state === 'stopping') return;
    const { listed, complete } = await this.#ask();
    this.#listed = new Set(listed.filter(isAlive).map(({ id }) => id));
    const steps = planReconcile({
      listed,
      wanted: state.all(),
      isRemoved: (id) => state.isRemoved(id),
      isAbsent: (workload) => complete && this.#isAbsent(workload),
      wasPlaced: (workload) => {
        const agent = this.#placed.get(workload.id);
        return agent !== undefined && agent === this.#options.owners.agentFor(workload)?.id;
      },
    });
    const queue = steps.filter((step) => !this.#busy.has(idOf(step)));
    const workers = Array.from({ length: STARTS_AT_ONCE }, async () => {
      for (let step = queue.shift(); step !== undefined; step = queue.shift()) await this.#take(step);
    });
    await Promise.all(workers);
    this.#tidy();
    this.#missing = new Map(this.#whyMissing(new Set(listed.map(({ id }) => id))));
  }

  *#whyMissing(listed: ReadonlySet<string>): Generator<[id: string, why: string]> {
    const { state, owners } = this.#options;
    for (const workload of state.all()) {
      const { id, progress, request } = workload;
      if (listed.has(id) || progress === 'starting') continue;
      if (progress === 'started' && request.workload_lifecycle === 'job') continue;
      const why = owners.agentFor(workload) === undefined ? 'its nexlet is away' : this.#backoff.reason(id);
      if (why !== undefined) yield [id, why];
    }
  }

  /** What every nexlet that is alive lists; not complete when one of them does not answer, or not with a list. */
  async #ask(): Promise<{ listed: WorkloadSummary[]; complete: boolean }> {
    const { nc, id, registry } = this.#node;
    const expected = registry.alive().length;
    if (expected === 0) return { listed: [], complete: true };
    const subject = agentSubjects.queryWorkloads(id);
    const payload = ListWorkloadsRequest.encode({ namespace: SYSTEM_NAMESPACE, filter: [] });
    const { signal } = this.#abort;
    const { replies } = await gather(nc, subject, payload, { timeout: ASK_TIMEOUT, expected, signal });
    const lists = replies.flatMap((reply) => {
      try {
        return [readReply(WorkloadSummaries, reply, subject)];
      } catch (error) {
        if (error instanceof ProtocolError) return [];
        throw error;
      }
    });
    const complete = lists.length >= expected;
    if (!complete && !this.#incomplete) {
      const fields = { nexlets: expected, answers: lists.length };
      this.#node.logger.warn(fields, 'a nexlet does not say what it runs: until it does, nothing is started again');
    }
    this.#incomplete = !complete;
    return { listed: lists.flat(), complete };
  }

  #isAbsent(workload: DesiredWorkload): boolean {
    const { id } = workload;
    if (this.#busy.has(id) || this.#backoff.holds(id)) return false;
    if (Date.now() - (this.#told.get(id) ?? 0) < this.#options.intervalMs) return false;
    return this.#options.owners.agentFor(workload) !== undefined;
  }

  async #take(step: Step): Promise<void> {
    const id = idOf(step);
    if (this.#abort.signal.aborted || this.#busy.has(id)) return;
    using _ = this.busyWith(id);
    try {
      await this.#do(step);
    } catch (error) {
      this.#abort.signal.throwIfAborted();
      this.#node.logger.error({ err: error, workloadId: id, step: step.kind }, 'a workload could not be reconciled');
    }
  }

  async #do(step: Step): Promise<void> {
    const { state } = this.#options;
    const { logger } = this.#node;
    switch (step.kind) {
      case 'adopt':
        return this.#adopt(step.id);
      case 'stop': {
        const stopped = await this.#node.agents.stop(step.id, step.namespace, this.#abort.signal);
        if (stopped === undefined) return;
        this.#node.revoke({ kind: 'workload', id: step.id });
        logger.info({ workloadId: step.id }, 'a workload that was stopped before had come back; it is stopped');
        return;
      }
      case 'started':
        // A stop may have come since the plan was made.
        if (state.get(step.workload.id) !== step.workload) return;
        return state.put({ ...step.workload, progress: 'started', since: new Date() });
      case 'forget':
        if (state.get(step.workload.id) !== step.workload) return;
        this.#node.revoke({ kind: 'workload', id: step.workload.id });
        return state.remove(step.workload.id, step.workload.request.workload_type);
      case 'start':
        return this.#startAgain(step.workload);
    }
  }

  async #adopt(id: string): Promise<void> {
    const { state } = this.#options;
    const payload = JSON.stringify({ namespace: SYSTEM_NAMESPACE, new_target_xkey: '' });
    const request = await this.#node.agents.get(id, payload, this.#abort.signal);
    if (request === undefined || state.isRemoved(id) || state.get(id) !== undefined) return;
    await state.put({ id, request, progress: 'started', since: new Date() });
    this.#node.logger.info(
      { workloadId: id, name: request.name },
      'a running workload is now part of the desired state',
    );
  }

  async #startAgain(workload: DesiredWorkload): Promise<void> {
    const { state, owners, mint } = this.#options;
    const { id, request } = workload;
    const agent = owners.agentFor(workload);
    if (this.#node.state !== 'running' || agent === undefined || state.get(id) !== workload) return;
    const answered = this.#node.registry.countDeployment(agent);
    let refusal: string | undefined = 'the node ends';
    try {
      const start = { request, workload_creds: await mint(id, request) };
      const reply = await this.#node.agents.start(agent, id, start, this.#abort.signal);
      refusal = reply === undefined ? 'its nexlet does not answer' : readErrorReply(reply)?.message;
    } finally {
      answered(refusal === undefined);
    }
    if (refusal !== undefined) return this.#notStarted(workload, refusal);
    this.placed(id, agent);
    this.#node.logger.info({ workloadId: id, name: request.name, agentId: agent.id }, 'workload started again');
    // A stop that came meanwhile found nothing to stop.
    if (state.get(id) === undefined) await this.#node.agents.stop(id, request.namespace, this.#abort.signal);
  }

  #notStarted({ id, request }: DesiredWorkload, why: string): void {
    const waitMs = this.#backoff.failed(id, why);
    const { logger, nc } = this.#node;
    logger.error({ workloadId: id, name: request.name, waitMs }, `a workload cannot be started again: ${why}`);
    if (nc.isClosed()) return;
    const body = { id, namespace: request.namespace, workload_type: request.workload_type };
    const error = { code: 'NOT_STARTED_AGAIN', message: why };
    nc.publish(feedSubjects.events(request.namespace, 'WORKLOADSTOPPED'), JSON.stringify({ ...body, error }));
  }

  /** Forgets what is noted of workloads that are no longer wanted. */
  #tidy(): void {
    const { state } = this.#options;
    for (const notes of [this.#told, this.#placed]) {
      for (const id of notes.keys()) if (state.get(id) === undefined && !this.#busy.has(id)) notes.delete(id);
    }
    this.#backoff.keep((id) => state.get(id) !== undefined && !this.#listed.has(id));
  }
}

function idOf(step: Step): string {
  return 'workload' in step ? step.workload.id : step.id;
}

function isAlive({ workload_state: state }: WorkloadSummary): boolean {
  return state !== 'stopped' && state !== 'error';
}
