import { toPublicError } from '@nex-nix/errors';
import { serveTriggers, type TriggerHandler, type Triggers } from '@nex-nix/nexlet';
import type { NatsConnectionData, StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import type { Runtime, SandboxSpec, Usage, WarmSandbox } from '@nex-nix/sandbox';
import type { Tenant } from '../bid-terms.ts';
import { NixNexletError } from '../nix-nexlet-error.ts';
import type { FunctionPlan } from '../request/workload-plan.ts';
import type { ManagedWorkload, WorkloadParts } from '../workload/managed-workload.ts';
import { endOf, type WorkloadEnd } from '../workload/workload-end.ts';
import { tellStarted, tellStopped } from '../workload/workload-news.ts';
import { invocationEnvironment } from './invocation-environment.ts';
import { InvocationFigures } from './invocation-figures.ts';
import { sandboxIdOf } from './sandbox-id.ts';
import { sumOfUsage } from './sum-of-usage.ts';
import { endingError, WarmPool } from './warm-pool.ts';

/** Messages that wait for an invocation to end; what comes beyond is answered with an error at once. */
const MAX_WAITING = 1024;

type Invocation = Parameters<TriggerHandler>[0];

/**
 * A workload whose program runs once for each message of its subjects. States: `starting` → `warm` → `stopped` or
 * `error`, with `stopping` in between.
 *
 * Nothing of it outlives its node, and no record is kept: a node that keeps its desired state starts it again.
 */
export class FunctionWorkload implements ManagedWorkload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly hasRun = false;
  readonly lost = false;
  readonly #parts: WorkloadParts;
  readonly #plan: FunctionPlan;
  /** Aborted by a stop: no more messages are taken. */
  readonly #stopping = new AbortController();
  /** Aborted when the grace of a stop is over: invocations are ended. */
  readonly #killing = new AbortController();
  readonly #figures = new InvocationFigures();
  readonly #startTime = new Date();
  readonly #pool: WarmPool;
  #state: WorkloadState = 'starting';
  #end: WorkloadEnd | undefined;
  #credentials: NatsConnectionData | undefined;
  #triggers: Triggers | undefined;
  /** Processor time of sandboxes that are gone, in microseconds. */
  #spentMicros = 0;
  /** The whole life in the background. Never rejects. */
  #run: Promise<void> = Promise.resolve();

  constructor(parts: WorkloadParts, plan: FunctionPlan) {
    this.id = parts.id;
    this.request = parts.request;
    this.#parts = parts;
    this.#plan = plan;
    this.#pool = new WarmPool({
      size: plan.warm,
      make: (n) => this.#makeSandbox(n),
      onFailure: (error) =>
        this.#parts.logger.error({ workload: this.id, err: error }, 'a sandbox cannot be kept ready'),
    });
  }

  get finished(): boolean {
    return this.#state === 'stopped' || this.#state === 'error';
  }

  get endTime(): number | undefined {
    return this.#end === undefined ? undefined : Date.parse(this.#end.time);
  }

  get tenant(): Tenant | undefined {
    if (this.finished) return undefined;
    const { namespace, name } = this.request;
    return { namespace, name, reservation: this.#parts.plan.reservation };
  }

  summary(): WorkloadSummary {
    const { error } = this.#end ?? {};
    return {
      id: this.id,
      name: this.request.name,
      namespace: this.request.namespace,
      runtime: this.#figures.runtime,
      start_time: this.#startTime.toISOString(),
      tags: this.request.tags,
      metadata: {
        store_path: this.#parts.plan.storePath,
        sandbox: this.#parts.plan.sandbox,
        restarts: '0',
        ...this.#figures.metadata,
        ...(error === undefined ? {} : { reason: error.message }),
      },
      workload_lifecycle: this.request.workload_lifecycle,
      workload_state: this.#state,
      workload_type: this.request.workload_type,
    };
  }

  async usage(): Promise<Usage | undefined> {
    if (this.finished) return undefined;
    const usages = await Promise.all(this.#pool.sandboxes.map((sandbox) => sandbox.usage()));
    return sumOfUsage([...usages, { cpuMicros: this.#spentMicros }]);
  }

  async launch(credentials: NatsConnectionData): Promise<void> {
    this.#credentials = credentials;
    const { signal } = this.#stopping;
    try {
      requireWarm(this.#parts.runtime);
      await this.#parts.image.accept(signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#state = 'stopped';
      throw error;
    }
    this.#parts.onAccepted();
    this.#run = this.#live();
  }

  /** Sandboxes made from now on have them; those that wait are replaced, those in use keep what they have. */
  async renew(credentials: NatsConnectionData): Promise<void> {
    this.#credentials = credentials;
    this.#triggers?.renew(credentials);
    if (this.#state === 'warm') this.#pool.replaceAll();
  }

  async stop(): Promise<void> {
    if (!this.finished) this.#state = 'stopping';
    this.#stopping.abort(new NixNexletError('NIX_NEXLET_STOPPED', `Workload "${this.id}" was stopped`));
    const grace = setTimeout(() => this.#killing.abort(endingError()), this.#parts.plan.stop.graceMs);
    await this.#run;
    clearTimeout(grace);
  }

  /** Nothing is remembered of it. */
  async forget(): Promise<void> {}

  /** Its sandboxes cannot outlive this process: whoever wants it back starts it again. */
  async release(): Promise<void> {
    if (!this.finished) await this.stop();
  }

  async #live(): Promise<void> {
    let end: WorkloadEnd;
    try {
      using _closure = this.#parts.hold();
      end = await this.#serve();
    } catch (error) {
      end = this.#failure(error);
    }
    this.#end = end;
    this.#state = end.state;
    tellStopped(this.#parts, end);
  }

  async #serve(): Promise<WorkloadEnd> {
    const { signal } = this.#stopping;
    await this.#parts.image.realise(signal);
    signal.throwIfAborted();
    await using _pool = this.#pool;
    await this.#pool.open();
    signal.throwIfAborted();
    await using triggers = await this.#subscribe(signal);
    signal.throwIfAborted();
    this.#triggers = triggers;
    this.#state = 'warm';
    tellStarted(this.#parts);
    const refusal = await Promise.race([triggers.closed, aborted(signal)]);
    if (refusal !== undefined) throw refusal;
    return { state: 'stopped', time: new Date().toISOString() };
  }

  #subscribe(signal: AbortSignal): Promise<Triggers> {
    const { logger, request } = this.#parts;
    return serveTriggers(this.#currentCredentials(), {
      workloadId: this.id,
      namespace: request.namespace,
      name: request.name,
      subjects: this.#plan.triggers,
      handler: (invocation) => this.#invoke(invocation),
      concurrency: this.#plan.concurrency,
      maxWaiting: MAX_WAITING,
      logger,
      signal,
    });
  }

  #failure(error: unknown): WorkloadEnd {
    const { logger } = this.#parts;
    const { code, message } = toPublicError(error);
    const time = new Date().toISOString();
    if (this.#stopping.signal.aborted) {
      logger.info({ workload: this.id, err: error }, 'start of a workload given up');
      return { state: 'stopped', time };
    }
    logger.error({ workload: this.id, code, err: error }, message);
    return { state: 'error', time, error: { code, message } };
  }

  async #makeSandbox(n: number): Promise<WarmSandbox> {
    const { image, runtime } = this.#parts;
    return warm(runtime, await image.spec(this.#currentCredentials(), sandboxIdOf(this.id, n)));
  }

  #currentCredentials(): NatsConnectionData {
    if (this.#credentials === undefined) throw new TypeError('A workload is started without credentials');
    return this.#credentials;
  }

  /** What it throws is the text of the error reply. */
  async #invoke(invocation: Invocation): Promise<Uint8Array> {
    let sandbox: WarmSandbox | undefined;
    let began = performance.now();
    let failed = true;
    try {
      this.#killing.signal.throwIfAborted();
      sandbox = await this.#pool.take();
      began = performance.now();
      const output = await this.#runIn(sandbox, invocation);
      failed = false;
      return output;
    } finally {
      this.#count(performance.now() - began, failed);
      const used = sandbox;
      // After the reply.
      if (used !== undefined) setImmediate(() => void this.#retire(used));
    }
  }

  async #runIn(sandbox: WarmSandbox, { subject, headers, data, maxReply }: Invocation): Promise<Uint8Array> {
    const { feeds, request } = this.#parts;
    const { timeoutMs } = this.#plan;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(timeLimitError(timeoutMs)), timeoutMs);
    try {
      const { exit, stdout } = await sandbox.invoke({
        stdin: data,
        environment: invocationEnvironment(subject, headers),
        signal: AbortSignal.any([limit.signal, this.#killing.signal]),
        maxOutput: maxReply,
        onStderr: (line) => void feeds.log(request.namespace, this.id, 'stderr', line),
      });
      const { error } = endOf(exit, { wanted: false });
      if (error !== undefined) throw new NixNexletError('NIX_NEXLET_INVOCATION_FAILED', error.message);
      return stdout;
    } finally {
      clearTimeout(timer);
    }
  }

  async #retire(sandbox: WarmSandbox): Promise<void> {
    try {
      this.#spentMicros += (await sandbox.usage()).cpuMicros ?? 0;
    } catch (error) {
      this.#parts.logger.warn({ workload: this.id, err: error }, 'what an invocation used cannot be read');
    }
    this.#pool.giveBack(sandbox);
  }

  #count(durationMs: number, failed: boolean): void {
    this.#figures.add(durationMs, failed);
    if (!this.#figures.mayTell()) return;
    const { namespace } = this.request;
    const body = { duration: Math.round(durationMs), id: this.id, namespace };
    this.#parts.feeds.event(namespace, 'WORKLOADTRIGGERED', body);
  }
}

function warm(runtime: Runtime, spec: SandboxSpec): Promise<WarmSandbox> {
  const sandbox = runtime.warm?.(spec);
  if (sandbox === undefined) throw new TypeError('A runtime without warm sandboxes is not asked for one');
  return sandbox;
}

function requireWarm(runtime: Runtime): void {
  if ('warm' in runtime) return;
  const message = `Cannot run a function: sandboxes of the kind "${runtime.name}" cannot wait for an invocation`;
  throw new NixNexletError('NIX_NEXLET_REQUEST_INVALID', message, { hint: 'Run it as a service' });
}

function aborted(signal: AbortSignal): Promise<undefined> {
  const done = Promise.withResolvers<undefined>();
  if (signal.aborted) done.resolve(undefined);
  signal.addEventListener('abort', () => done.resolve(undefined), { once: true });
  return done.promise;
}

function timeLimitError(ms: number): NixNexletError {
  const limit = ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
  return new NixNexletError('NIX_NEXLET_INVOCATION_FAILED', `it ran longer than its time limit of ${limit}`);
}
