import { toPublicError } from '@nex-nix/errors';
import type { NatsConnectionData, StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import type { LogPosition, Sandbox } from '@nex-nix/sandbox';
import type { Tenant } from '../bid-terms.ts';
import { CREDENTIALS_FILE, formatCredentials } from '../request/credentials-file.ts';
import { Delivery } from './delivery.ts';
import { followLogs, START_OF_LOGS } from './follow-logs.ts';
import { NixNexletError } from '../nix-nexlet-error.ts';
import type { ManagedWorkload, WorkloadParts } from './managed-workload.ts';
import { endOf, exitOf, isLost, type WorkloadEnd } from './workload-end.ts';
import { tellStarted, tellStopped } from './workload-news.ts';
import type { WorkloadRecord } from './workload-record.ts';

/**
 * One workload from its start request to the end of its sandbox. States: `starting` → `running` → `stopped` or `error`,
 * with `stopping` in between when somebody asked for the end.
 *
 * Its record is on disk from before its sandbox starts, so that whatever a killed node leaves running is known to the
 * next one; and after its end, so that what has run is not taken for what never did.
 */
export class Workload implements ManagedWorkload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly #parts: WorkloadParts;
  readonly #abort = new AbortController();
  /** Resolves when its program runs, or never will. */
  readonly #begun = Promise.withResolvers<void>();
  #state: WorkloadState = 'starting';
  #end: WorkloadEnd | undefined;
  #startTime = new Date();
  #sandbox: Sandbox | undefined;
  /** Its program runs: from its start until its exit is known. */
  #alive = false;
  #released = false;
  /** Whether its end is to be remembered. */
  #keepEnd = true;
  readonly #delivery: Delivery;
  /** The whole run in the background. Never rejects. */
  #run: Promise<void> = Promise.resolve();
  /** Until the server has the news of its end. Never rejects. */
  #telling: Promise<void> = Promise.resolve();

  constructor(parts: WorkloadParts) {
    this.id = parts.id;
    this.request = parts.request;
    this.#parts = parts;
    this.#delivery = new Delivery(parts.feeds);
  }

  /** Whether its sandbox has ended, or never came to be. */
  get finished(): boolean {
    return this.#state === 'stopped' || this.#state === 'error';
  }

  /** Whether it is a job whose program was started: it must not run again. */
  get hasRun(): boolean {
    return this.request.workload_lifecycle === 'job' && this.#state !== 'starting';
  }

  /** When it ended, in milliseconds of the Unix epoch; undefined while it has not. */
  get endTime(): number | undefined {
    return this.#end === undefined ? undefined : Date.parse(this.#end.time);
  }

  /** Whether it vanished, as with a crash of the machine, rather than ended. */
  get lost(): boolean {
    return this.finished && this.#end !== undefined && isLost(this.#end);
  }

  /** What bids depend on; undefined when it takes no more room. */
  get tenant(): Tenant | undefined {
    if (this.finished) return undefined;
    const { namespace, name } = this.request;
    return { namespace, name, reservation: this.#parts.plan.reservation };
  }

  summary(): WorkloadSummary {
    const { error, exitCode } = this.#end ?? {};
    return {
      id: this.id,
      name: this.request.name,
      namespace: this.request.namespace,
      runtime: '--',
      start_time: this.#startTime.toISOString(),
      tags: this.request.tags,
      metadata: {
        store_path: this.#parts.plan.storePath,
        restarts: '0',
        ...(error === undefined ? {} : { reason: error.message }),
        ...(exitCode === undefined ? {} : { exit_code: String(exitCode) }),
      },
      workload_lifecycle: this.request.workload_lifecycle,
      workload_state: this.#state,
      workload_type: this.request.workload_type,
    };
  }

  /** Resolves when the request is accepted; the rest happens in the background. */
  async launch(credentials: NatsConnectionData): Promise<void> {
    const { signal } = this.#abort;
    const { image, runtime, records, onAccepted } = this.#parts;
    try {
      await image.accept(signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#state = 'stopped';
      this.#begun.resolve();
      throw error;
    }
    onAccepted();
    this.#run = this.#guard(async () => {
      await image.realise(signal);
      const sandbox = await runtime.create(await image.spec(credentials));
      this.#sandbox = sandbox;
      try {
        signal.throwIfAborted();
        await records.save(this.#record(sandbox, undefined));
        await sandbox.start({ signal });
      } catch (error) {
        await sandbox.remove();
        throw error;
      }
      await this.#supervise(sandbox, undefined);
    });
  }

  /** Remembers one that ended under an earlier node process. */
  static ended(parts: WorkloadParts, { startTime, end }: WorkloadRecord & { end: WorkloadEnd }): Workload {
    const workload = new Workload(parts);
    workload.#startTime = new Date(startTime);
    workload.#end = end;
    workload.#begun.resolve();
    workload.#state = end.state;
    // The news of its end may have been lost with the process that had them.
    if (end.told !== true) workload.#run = workload.#conclude(end);
    return workload;
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
    this.#run = this.#guard(() => this.#conclude(endOf({ outOfMemory: false }, false)));
    await this.#run;
  }

  /** Gives a running workload new credentials: those of its file. What it got in its environment stays as it is. */
  async renew(credentials: NatsConnectionData): Promise<void> {
    const text = formatCredentials(credentials);
    if (text === undefined || this.finished) return;
    await this.#sandbox?.replaceFile(CREDENTIALS_FILE, text);
  }

  /**
   * Ends the workload; resolves when nothing of it is alive and nothing of it is left, but for its end when that is to be
   * kept. May be called again after it failed.
   */
  async stop({ keepEnd = false }: { keepEnd?: boolean } = {}): Promise<void> {
    this.#keepEnd = keepEnd;
    this.#delivery.hurry();
    if (!this.finished) this.#state = 'stopping';
    this.#abort.abort(new NixNexletError('NIX_NEXLET_STOPPED', `Workload "${this.id}" was stopped`));
    await this.#begun.promise;
    if (this.#alive) await this.#sandbox?.stop(this.#parts.plan.stop);
    await this.#run;
    if (!keepEnd) await this.forget();
  }

  /** Removes what is remembered of its end. */
  async forget(): Promise<void> {
    this.#keepEnd = false;
    this.#delivery.hurry();
    await this.#telling;
    await this.#attempt('its record cannot be removed', () => this.#parts.records.remove(this.id));
  }

  /**
   * Lets go of the workload without ending it; a later nexlet adopts it from its record. What does not run yet is
   * stopped: half a start is nothing that could be handed over.
   */
  async release(): Promise<void> {
    if (this.finished) return;
    if (this.#state !== 'running') return this.stop();
    this.#released = true;
    this.#delivery.hurry();
    await this.#sandbox?.[Symbol.asyncDispose]();
    await this.#run;
  }

  async #guard(run: () => Promise<void>): Promise<void> {
    try {
      using _closure = this.#parts.hold();
      await run();
    } catch (error) {
      const { code, message } = toPublicError(error);
      const time = new Date().toISOString();
      if (this.#state === 'stopping') {
        this.#parts.logger.info({ workload: this.id, err: error }, 'start of a workload given up');
        await this.#conclude({ state: 'stopped', time });
      } else {
        this.#parts.logger.error({ workload: this.id, code, err: error }, message);
        await this.#conclude({ state: 'error', time, error: { code, message } });
      }
    } finally {
      this.#begun.resolve();
    }
  }

  /**
   * What comes after the last line of its logs. At every moment its record says what is still to be done: to remove its
   * sandbox, to tell of its end, or nothing.
   */
  async #conclude(end: WorkloadEnd): Promise<void> {
    this.#end = end;
    await this.#remember();
    await this.#attempt('what is left of its sandbox cannot be removed', async () => this.#sandbox?.remove());
    this.#announceEnd(end);
    this.#telling = this.#untilTold(end);
  }

  async #untilTold(end: WorkloadEnd): Promise<void> {
    if (!this.#keepEnd || !(await this.#delivery.delivered())) return;
    this.#end = { ...end, told: true };
    await this.#remember();
  }

  async #remember(): Promise<void> {
    if (!this.#keepEnd) return;
    await this.#attempt('its end cannot be written down', () => this.#parts.records.save(this.#record(this.#sandbox)));
  }

  /** Publishes the logs of a running sandbox until it has ended, then removes it; or until it is let go of. */
  async #supervise(sandbox: Sandbox, from: LogPosition | undefined): Promise<void> {
    this.#alive = true;
    if (this.#state === 'starting') this.#state = 'running';
    this.#begun.resolve();
    // Without a position nobody has heard yet that it runs.
    if (from === undefined) this.#announceStart();
    const logs = this.#publishLogs(sandbox, from ?? START_OF_LOGS);
    const exit = await exitOf(sandbox);
    this.#alive = false;
    await logs;
    // Removing it is left to whoever adopts it, as are the last lines and the news of its end.
    if (exit === undefined || this.#released) return;
    await this.#conclude(endOf(exit, this.#state === 'stopping'));
  }

  async #publishLogs(sandbox: Sandbox, from: LogPosition): Promise<void> {
    const { feeds, request, records } = this.#parts;
    await this.#attempt('its logs cannot be read on', () =>
      followLogs(sandbox, from, {
        publish: ({ stream, line }) => feeds.log(request.namespace, this.id, stream, line),
        delivered: () => this.#delivery.delivered(),
        save: (position) =>
          this.#attempt('the position of its logs cannot be written down', () =>
            records.save(this.#record(sandbox, position)),
          ),
      }),
    );
  }

  #record(sandbox: Sandbox | undefined, logPosition?: LogPosition): WorkloadRecord {
    return {
      version: 1,
      id: this.id,
      request: this.request,
      startTime: this.#startTime.toISOString(),
      ...(sandbox === undefined ? {} : { sandbox: sandbox.record }),
      ...(logPosition === undefined ? {} : { logPosition }),
      ...(this.#end === undefined ? {} : { end: this.#end }),
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
    this.#parts.logger.info({ workload: this.id, name: this.request.name }, 'workload running');
    tellStarted(this.#parts.feeds, this);
  }

  #announceEnd(end: WorkloadEnd): void {
    const { state, error } = end;
    this.#state = state;
    const details = { workload: this.id, name: this.request.name, ...(error === undefined ? {} : { error }) };
    this.#parts.logger.info(details, `workload ${state}`);
    tellStopped(this.#parts.feeds, this, end);
  }
}
