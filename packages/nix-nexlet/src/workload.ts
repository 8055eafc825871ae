import { toPublicError } from '@nex-nix/errors';
import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import type { Exit, LogPosition, Sandbox } from '@nex-nix/sandbox';
import { NixNexletError } from './nix-nexlet-error.ts';
import type { WorkloadPlan } from './start-request.ts';
import type { WorkloadRecords } from './workload-record.ts';

/** How often the position of published log lines is written down, in milliseconds. */
const POSITION_INTERVAL = 1_000;

export interface WorkloadParts {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly records: WorkloadRecords;
  readonly feeds: Feeds;
  readonly logger: Logger;
}

/**
 * One workload from its start request to the end of its sandbox. States: `starting` → `running` → `stopped` or `error`,
 * with `stopping` in between when somebody asked for the end.
 */
export class Workload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly #parts: WorkloadParts;
  readonly #abort = new AbortController();
  #state: WorkloadState = 'starting';
  #reason: string | undefined;
  #startTime = new Date();
  #sandbox: Sandbox | undefined;
  #run: Promise<void> = Promise.resolve();
  /** Its program runs, or has run. */
  #live = false;
  #released = false;

  constructor(parts: WorkloadParts) {
    this.id = parts.id;
    this.request = parts.request;
    this.#parts = parts;
  }

  get state(): WorkloadState {
    return this.#state;
  }

  /** Whether its sandbox has ended, or never came to be. */
  get finished(): boolean {
    return this.#state === 'stopped' || this.#state === 'error';
  }

  summary(): WorkloadSummary {
    return {
      id: this.id,
      name: this.request.name,
      namespace: this.request.namespace,
      runtime: '--',
      start_time: this.#startTime.toISOString(),
      tags: this.request.tags,
      metadata: {
        store_path: this.#parts.plan.storePath,
        ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      },
      workload_lifecycle: this.request.workload_lifecycle,
      workload_state: this.#state,
      workload_type: this.request.workload_type,
    };
  }

  /** Runs the workload in the background. `prepare` makes its sandbox: the closure is fetched there. */
  launch(prepare: (signal: AbortSignal) => Promise<Sandbox>): void {
    this.#run = this.#guard(async () => {
      const sandbox = await prepare(this.#abort.signal);
      this.#sandbox = sandbox;
      try {
        this.#abort.signal.throwIfAborted();
        await this.#save();
        await sandbox.start();
      } catch (error) {
        await sandbox.remove();
        throw error;
      }
      this.#started();
      await this.#supervise(sandbox, undefined);
    });
  }

  /** Goes on with a sandbox that outlived an earlier node process. */
  adopt(sandbox: Sandbox, startTime: Date, position: LogPosition | undefined): void {
    this.#sandbox = sandbox;
    this.#startTime = startTime;
    this.#run = this.#guard(async () => {
      this.#started();
      await this.#supervise(sandbox, position);
    });
  }

  /** Ends the workload; resolves when nothing of it is alive and nothing of it is left. */
  async stop(): Promise<void> {
    if (!this.finished) this.#state = 'stopping';
    this.#abort.abort(new NixNexletError('NIX_NEXLET_CLOSING', `Workload "${this.id}" was stopped`));
    if (this.#live && !this.finished) await this.#sandbox?.stop(this.#parts.plan.stop);
    await this.#run;
  }

  /** Lets go of the workload without ending it; a later nexlet adopts it from its record. */
  async release(): Promise<void> {
    this.#released = true;
    if (this.#state !== 'running') return this.stop();
    await this.#sandbox?.[Symbol.asyncDispose]();
    await this.#run;
  }

  async #guard(run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (this.#state === 'stopping') return this.#finish('stopped');
      const { code, message } = toPublicError(error);
      this.#parts.logger.error({ workload: this.id, code, err: error }, message);
      this.#finish('error', { code, message });
    } finally {
      if (!this.#released || this.finished) await this.#parts.records.remove(this.id);
    }
  }

  #started(): void {
    const { feeds, request, logger } = this.#parts;
    if (this.#state === 'starting') this.#state = 'running';
    logger.info({ workload: this.id, name: request.name }, 'workload running');
    feeds.event(request.namespace, 'WORKLOADSTARTED', {
      id: this.id,
      namespace: request.namespace,
      workload_type: request.workload_type,
    });
  }

  /** Publishes the logs of a running sandbox until it has ended, then removes it; or until it is let go of. */
  async #supervise(sandbox: Sandbox, from: LogPosition | undefined): Promise<void> {
    this.#live = true;
    if (this.#abort.signal.aborted) await sandbox.stop(this.#parts.plan.stop);
    const logs = this.#publishLogs(sandbox, from);
    const exit = await sandbox.exited.catch((error: unknown) => {
      if (this.#released) return undefined;
      throw error;
    });
    await logs;
    if (exit === undefined) return;
    await sandbox.remove();
    this.#ended(exit);
  }

  async #publishLogs(sandbox: Sandbox, from: LogPosition | undefined): Promise<void> {
    const { feeds, request } = this.#parts;
    let saved = Date.now();
    for await (const entry of sandbox.logs(from, { follow: true })) {
      feeds.log(request.namespace, this.id, entry.stream, entry.line);
      if (Date.now() - saved >= POSITION_INTERVAL) {
        saved = Date.now();
        await this.#save(entry.position);
      }
    }
  }

  async #save(logPosition?: LogPosition): Promise<void> {
    if (this.#sandbox === undefined) return;
    await this.#parts.records.save({
      version: 1,
      id: this.id,
      request: this.request,
      startTime: this.#startTime.toISOString(),
      sandbox: this.#sandbox.record,
      logPosition,
    });
  }

  #ended(exit: Exit): void {
    if (this.#state === 'stopping' || exit.code === 0) return this.#finish('stopped');
    if (exit.outOfMemory)
      return this.#finish('error', { code: 'OUT_OF_MEMORY', message: 'it used more memory than its limit' });
    const message =
      exit.signal === undefined ? `it ended with exit code ${exit.code}` : `it was ended by ${exit.signal}`;
    this.#finish('error', { code: exit.signal ?? String(exit.code), message });
  }

  #finish(state: 'stopped' | 'error', error?: { code: string; message: string }): void {
    const { feeds, request, logger } = this.#parts;
    this.#state = state;
    this.#reason = error?.message;
    logger.info(
      { workload: this.id, name: request.name, ...(error === undefined ? {} : { error }) },
      `workload ${state}`,
    );
    feeds.event(request.namespace, 'WORKLOADSTOPPED', {
      id: this.id,
      namespace: request.namespace,
      workload_type: request.workload_type,
      ...(error === undefined ? {} : { error }),
    });
  }
}
