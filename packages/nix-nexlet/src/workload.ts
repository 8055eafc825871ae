import { toPublicError } from '@nex-nix/errors';
import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import { type Exit, type LogPosition, type Sandbox, SandboxError } from '@nex-nix/sandbox';
import { followLogs, START_OF_LOGS } from './follow-logs.ts';
import { NixNexletError } from './nix-nexlet-error.ts';
import type { WorkloadPlan } from './start-request.ts';
import type { WorkloadRecord, WorkloadRecords } from './workload-record.ts';

export interface WorkloadParts {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly records: WorkloadRecords;
  readonly feeds: Feeds;
  readonly logger: Logger;
  /** Keeps its closure in the node's store until it is disposed of. */
  readonly hold: () => Disposable;
}

/** What it takes to start a workload, in two steps: the first decides whether the request is accepted. */
export interface Launch<T> {
  /** A rejection refuses the workload. */
  accept: (signal: AbortSignal) => Promise<T>;
  /** Makes its sandbox. */
  prepare: (accepted: T, signal: AbortSignal) => Promise<Sandbox>;
}

/**
 * One workload from its start request to the end of its sandbox. States: `starting` → `running` → `stopped` or `error`,
 * with `stopping` in between when somebody asked for the end.
 *
 * Its record is on disk from before its sandbox starts until after it has ended, so that whatever a killed node leaves
 * running is known to the next one.
 */
export class Workload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly #parts: WorkloadParts;
  readonly #abort = new AbortController();
  /** Resolves when its program runs, or never will. */
  readonly #begun = Promise.withResolvers<void>();
  #state: WorkloadState = 'starting';
  #reason: string | undefined;
  #startTime = new Date();
  #sandbox: Sandbox | undefined;
  /** Its program runs: from its start until its exit is known. */
  #alive = false;
  #released = false;
  /** The whole run in the background. Never rejects. */
  #run: Promise<void> = Promise.resolve();

  constructor(parts: WorkloadParts) {
    this.id = parts.id;
    this.request = parts.request;
    this.#parts = parts;
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

  /** Resolves when the request is accepted; the rest happens in the background. */
  async launch<T>({ accept, prepare }: Launch<T>): Promise<void> {
    const { signal } = this.#abort;
    let accepted: T;
    try {
      accepted = await accept(signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#state = 'stopped';
      this.#begun.resolve();
      throw error;
    }
    this.#run = this.#guard(async () => {
      const sandbox = await prepare(accepted, signal);
      this.#sandbox = sandbox;
      try {
        signal.throwIfAborted();
        await this.#parts.records.save(this.#record(sandbox, undefined));
        await sandbox.start({ signal });
      } catch (error) {
        await sandbox.remove();
        throw error;
      }
      await this.#supervise(sandbox, undefined);
    });
  }

  /** Goes on with a sandbox that outlived an earlier node process. */
  adopt(sandbox: Sandbox, { startTime, logPosition }: WorkloadRecord): void {
    this.#sandbox = sandbox;
    this.#startTime = new Date(startTime);
    this.#run = this.#guard(() => this.#supervise(sandbox, logPosition));
  }

  /** Its sandbox is gone, and nobody was there to see how it ended. */
  async lose({ startTime }: WorkloadRecord): Promise<void> {
    this.#startTime = new Date(startTime);
    await this.#guard(async () => this.#ended({ outOfMemory: false }));
  }

  /**
   * Ends the workload; resolves when nothing of it is alive and nothing of it is left. May be called again after it
   * failed.
   */
  async stop(): Promise<void> {
    if (!this.finished) this.#state = 'stopping';
    this.#abort.abort(new NixNexletError('NIX_NEXLET_STOPPED', `Workload "${this.id}" was stopped`));
    await this.#begun.promise;
    if (this.#alive) await this.#sandbox?.stop(this.#parts.plan.stop);
    await this.#run;
  }

  /**
   * Lets go of the workload without ending it; a later nexlet adopts it from its record. What does not run yet is
   * stopped: half a start is nothing that could be handed over.
   */
  async release(): Promise<void> {
    if (this.#state !== 'running') return this.stop();
    this.#released = true;
    await this.#sandbox?.[Symbol.asyncDispose]();
    await this.#run;
  }

  async #guard(run: () => Promise<void>): Promise<void> {
    try {
      using _closure = this.#parts.hold();
      await run();
    } catch (error) {
      const { code, message } = toPublicError(error);
      if (this.#state === 'stopping') {
        this.#parts.logger.info({ workload: this.id, err: error }, 'start of a workload given up');
        this.#finish('stopped');
      } else {
        this.#parts.logger.error({ workload: this.id, code, err: error }, message);
        this.#finish('error', { code, message });
      }
    } finally {
      this.#begun.resolve();
    }
    if (this.finished) await this.#attempt('its record cannot be removed', () => this.#parts.records.remove(this.id));
  }

  /** Publishes the logs of a running sandbox until it has ended, then removes it; or until it is let go of. */
  async #supervise(sandbox: Sandbox, from: LogPosition | undefined): Promise<void> {
    this.#alive = true;
    if (this.#state === 'starting') this.#state = 'running';
    this.#begun.resolve();
    // Without a position nobody has heard yet that it runs.
    if (from === undefined) this.#announceStart();
    const logs = this.#publishLogs(sandbox, from ?? START_OF_LOGS);
    const exit = await untilReleased(sandbox.exited);
    this.#alive = false;
    await logs;
    // Removing it is left to whoever adopts it, as are the last lines and the news of its end.
    if (exit === undefined || this.#released) return;
    await this.#attempt('what is left of its sandbox cannot be removed', () => sandbox.remove());
    this.#ended(exit);
  }

  async #publishLogs(sandbox: Sandbox, from: LogPosition): Promise<void> {
    const { feeds, request, records } = this.#parts;
    await this.#attempt('its logs cannot be read on', () =>
      followLogs(sandbox, from, {
        publish: ({ stream, line }) => feeds.log(request.namespace, this.id, stream, line),
        save: (position) =>
          this.#attempt('the position of its logs cannot be written down', () =>
            records.save(this.#record(sandbox, position)),
          ),
      }),
    );
  }

  #record(sandbox: Sandbox, logPosition: LogPosition | undefined): WorkloadRecord {
    return {
      version: 1,
      id: this.id,
      request: this.request,
      startTime: this.#startTime.toISOString(),
      sandbox: sandbox.record,
      ...(logPosition === undefined ? {} : { logPosition }),
    };
  }

  /** Does what the workload can go on without. */
  async #attempt(failure: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#parts.logger.error({ workload: this.id, err: error }, `workload "${this.id}": ${failure}`);
    }
  }

  #announceStart(): void {
    const { feeds, request, logger } = this.#parts;
    logger.info({ workload: this.id, name: request.name }, 'workload running');
    feeds.event(request.namespace, 'WORKLOADSTARTED', {
      id: this.id,
      namespace: request.namespace,
      workload_type: request.workload_type,
    });
  }

  #ended({ code, signal, outOfMemory }: Exit): void {
    if (this.#state === 'stopping' || code === 0) return this.#finish('stopped');
    if (outOfMemory) {
      return this.#finish('error', { code: 'OUT_OF_MEMORY', message: 'it used more memory than its limit' });
    }
    if (code === undefined) {
      return this.#finish('error', { code: 'LOST', message: 'it ended while no node was there to see how' });
    }
    const message = signal === undefined ? `it ended with exit code ${code}` : `it was ended by ${signal}`;
    this.#finish('error', { code: signal ?? String(code), message });
  }

  #finish(state: 'stopped' | 'error', error?: { code: string; message: string }): void {
    const { feeds, request, logger } = this.#parts;
    this.#state = state;
    this.#reason = error?.message;
    const details = { workload: this.id, name: request.name, ...(error === undefined ? {} : { error }) };
    logger.info(details, `workload ${state}`);
    feeds.event(request.namespace, 'WORKLOADSTOPPED', {
      id: this.id,
      namespace: request.namespace,
      workload_type: request.workload_type,
      ...(error === undefined ? {} : { error }),
    });
  }
}

/** Undefined when the sandbox is let go of before it has ended. */
async function untilReleased(exited: Promise<Exit>): Promise<Exit | undefined> {
  try {
    return await exited;
  } catch (error) {
    if (error instanceof SandboxError && error.code === 'SANDBOX_RELEASED') return undefined;
    throw error;
  }
}
