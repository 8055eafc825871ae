import { setTimeout as delay } from 'node:timers/promises';
import { toPublicError } from '@nex-nix/errors';
import type { NatsConnectionData } from '@nex-nix/protocol';
import type { Sandbox } from '@nex-nix/sandbox';
import { openProbe } from '../health/open-probe.ts';
import { CREDENTIALS_FILE, formatCredentials } from '../request/credentials-file.ts';
import type { WorkloadParts } from './managed-workload.ts';
import { Restarts } from './restarts.ts';
import { type FormerRun, Run, wasUp } from './run.ts';
import { untilAborted } from '../until-aborted.ts';
import { lostEnd, type WorkloadEnd } from './workload-end.ts';
import { tellRestarting, tellStarted } from './workload-news.ts';
import type { WorkloadRecord } from './workload-record.ts';

/** Begins a run. */
type Begin = () => Promise<Run>;

/** The reason of a start or a wait that ends because the nexlet lets go of the workload. */
const RELEASED = Symbol('released');

/** Writes down what of the workload has changed. */
export interface Saving {
  /** Rejects when that fails. */
  readonly save: () => Promise<void>;
  /** Never rejects. */
  readonly trySave: () => Promise<void>;
}

/**
 * All runs of one workload, one after the other and never two of them at once, until none follows. `begin`, `adopt` and
 * `resume` resolve with the end of the last one, whose sandbox is still to be removed; with undefined when they were let go of.
 */
export class Runs {
  readonly restarts: Restarts;
  readonly #parts: WorkloadParts;
  readonly #isJob: boolean;
  readonly #saving: Saving;
  readonly #abort = new AbortController();
  readonly #gotCredentials = Promise.withResolvers<void>();
  #credentials: NatsConnectionData | undefined;
  #accepted = false;
  #stopping = false;
  /** Until the next run has begun, or will not. Never rejects. */
  #beginning: Promise<unknown> = Promise.resolve();
  /** The present one, or the last until its sandbox is removed. */
  #run: Run | undefined;
  #any = false;

  constructor(parts: WorkloadParts, saving: Saving) {
    this.#parts = parts;
    this.#saving = saving;
    this.#isJob = parts.request.workload_lifecycle === 'job';
    this.restarts = new Restarts(parts.plan.restart, { isJob: this.#isJob });
  }

  /** The present one; undefined while the next one is waited for. */
  get present(): Run | undefined {
    return this.#run;
  }

  /** Whether the next one could begin, had the node given the workload its credentials. */
  get waitsForCredentials(): boolean {
    const { next } = this.restarts;
    return this.#credentials === undefined && next !== undefined && next.getTime() <= Date.now();
  }

  /** Whether there was one, that program was started in. */
  get any(): boolean {
    return this.#any;
  }

  /** What the workload acts with on NATS: the file of the present run is replaced, the next one begins with it. */
  async give(credentials: NatsConnectionData): Promise<void> {
    this.#credentials = credentials;
    this.#gotCredentials.resolve();
    const text = formatCredentials(credentials);
    if (text !== undefined) await this.#run?.replaceFile(CREDENTIALS_FILE, text);
  }

  /** Checks what is to run. Rejects when it is refused, or stopped meanwhile. */
  async accept(): Promise<void> {
    const { signal } = this.#abort;
    const accepting = this.#parts.image.accept(signal);
    this.#beginning = accepting.catch(() => undefined);
    await accepting;
    signal.throwIfAborted();
    this.#accepted = true;
  }

  /** Begins the first one. After `accept()` and `give()`. */
  async begin(): Promise<WorkloadEnd | undefined> {
    return this.#follow(() => this.#start());
  }

  /** Goes on with one that an earlier process began. */
  async adopt(sandbox: Sandbox, record: WorkloadRecord): Promise<WorkloadEnd | undefined> {
    this.recall(record);
    const former = { ...record, began: record.began ?? record.startTime };
    return this.#follow(async () => this.#attend(sandbox, former));
  }

  /** Goes on waiting for the next one, as an earlier process did. After `recall()` or `lose()`. */
  async resume(): Promise<WorkloadEnd | undefined> {
    this.restarts.next ??= new Date();
    return this.#follow(() => this.#startAgain());
  }

  /** The one that was there is gone without a trace. Undefined when another one follows. */
  async lose(record: WorkloadRecord): Promise<WorkloadEnd | undefined> {
    this.recall(record);
    return this.#lastOrNone(lostEnd(), wasUp(record) ? new Date(record.began ?? record.startTime) : undefined);
  }

  /** Takes over what was written down of earlier ones. */
  recall(record: WorkloadRecord): void {
    this.#any = true;
    this.restarts.recall(record);
  }

  /** Resolves when nothing runs and nothing will. `reason`: of starts that come to nothing by it. May be called again after it failed. */
  async stop(reason: Error): Promise<void> {
    this.#stopping = true;
    this.#abort.abort(reason);
    await this.#beginning;
    await this.#run?.stop();
  }

  /** Leaves everything to a later process. */
  async release(): Promise<void> {
    this.#abort.abort(RELEASED);
    await this.#beginning;
    await this.#run?.release();
  }

  /** Removes what is left of the last one. */
  async removeLast(): Promise<void> {
    await this.#run?.remove();
    this.#run = undefined;
  }

  async #follow(first: Begin): Promise<WorkloadEnd | undefined> {
    for (let begin = first; ; begin = () => this.#startAgain()) {
      const end = await this.#oneRun(begin);
      if (end === undefined) return undefined;
      // What could not be started once will not be the next time either.
      const last = this.#any ? await this.#lastOrNone(end, this.#run?.upSince) : end;
      if (last !== undefined) return last;
    }
  }

  /** How it ended, or why it did not begin; undefined when it is left to a later process. */
  async #oneRun(begin: Begin): Promise<WorkloadEnd | undefined> {
    try {
      const beginning = begin();
      this.#beginning = beginning.catch(() => undefined);
      const run = await beginning;
      return await run.ended;
    } catch (error) {
      if (this.#abort.signal.reason !== RELEASED) return this.#notBegun(error);
      this.restarts.next ??= new Date();
      await this.#saving.trySave();
      return undefined;
    }
  }

  #notBegun(error: unknown): WorkloadEnd {
    const { logger, id } = this.#parts;
    const { code, message } = toPublicError(error);
    const time = new Date().toISOString();
    if (this.#stopping) {
      logger.info({ workload: id, err: error }, 'start of a workload given up');
      return { state: 'stopped', time };
    }
    logger.error({ workload: id, code, err: error }, message);
    return { state: 'error', time, error: { code, message } };
  }

  /** The end as that of the last run; undefined when another one follows. */
  async #lastOrNone(end: WorkloadEnd, upSince: Date | undefined): Promise<WorkloadEnd | undefined> {
    const followed = this.#stopping ? undefined : this.restarts.follow(end, upSince);
    if (followed === undefined) return this.#stopping ? end : this.restarts.givenUp(end);
    await this.#saving.trySave();
    await this.removeLast();
    tellRestarting(this.#parts, followed, this.restarts.isCrashLoop(undefined));
    return undefined;
  }

  async #startAgain(): Promise<Run> {
    const { signal } = this.#abort;
    await delay(this.restarts.waitMs, undefined, { signal });
    // After a restart of the node they come when it has registered the nexlet.
    await untilAborted(this.#gotCredentials.promise, signal);
    if (!this.#accepted) await this.#parts.image.accept(signal);
    this.#accepted = true;
    return this.#start();
  }

  async #start(): Promise<Run> {
    const { signal } = this.#abort;
    const { image, runtime } = this.#parts;
    await image.realise(signal);
    if (this.#credentials === undefined) throw new TypeError('A workload is started without credentials');
    const sandbox = await runtime.create(await image.spec(this.#credentials));
    const { next } = this.restarts;
    const run = this.#attend(sandbox);
    this.restarts.next = undefined;
    try {
      signal.throwIfAborted();
      await this.#saving.save();
      await run.start(signal);
    } catch (error) {
      this.restarts.next = next;
      await this.removeLast();
      throw error;
    }
    this.#any = true;
    return run;
  }

  /** `former`: what is known of a run that an earlier process began. */
  #attend(sandbox: Sandbox, former?: FormerRun): Run {
    const { id, request, plan } = this.#parts;
    const probed = { id, request, plan, sandbox, credentials: () => this.#credentials };
    const { health } = plan;
    const hooks = {
      openProbe: health && (() => openProbe(health, probed)),
      isFollowed: (end: WorkloadEnd, upSince: Date | undefined) =>
        !this.#stopping && this.restarts.isFollowed(end, upSince),
      onUp: () => tellStarted(this.#parts),
      save: this.#saving.trySave,
    };
    this.#run = new Run(sandbox, { ...this.#parts, ...hooks }, former);
    return this.#run;
  }
}
