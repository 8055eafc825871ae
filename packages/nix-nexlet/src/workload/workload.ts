import type { NatsConnectionData, StartWorkloadRequest, WorkloadState, WorkloadSummary } from '@nex-nix/protocol';
import type { Sandbox, Usage } from '@nex-nix/sandbox';
import type { Tenant } from '../bid-terms.ts';
import { Delivery } from './delivery.ts';
import { NixNexletError } from '../nix-nexlet-error.ts';
import type { ManagedWorkload, WorkloadParts } from './managed-workload.ts';
import { RecordFile } from './record-file.ts';
import { Runs } from './runs.ts';
import { isLost, type WorkloadEnd } from './workload-end.ts';
import { tellStopped } from './workload-news.ts';
import type { WorkloadRecord } from './workload-record.ts';
import { summarise } from './workload-summary.ts';

/**
 * A service or a job, from its start request to the end of its last run. States: `starting` → `running` → `stopped` or
 * `error`; back to `starting` where another run follows; with `stopping` when somebody asked for the end.
 *
 * Its record is on disk from before a sandbox starts, so that whatever a killed node leaves running is known to the
 * next one; between two runs, so that there is one of them only; and after its end, so that what has run is not taken
 * for what never did.
 */
export class Workload implements ManagedWorkload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly #parts: WorkloadParts;
  readonly #record: RecordFile;
  readonly #delivery: Delivery;
  readonly #runs: Runs;
  #startTime = new Date();
  #stopping = false;
  /** Its request was not accepted. */
  #refused = false;
  #end: WorkloadEnd | undefined;
  /** Nothing of it is left, and its end is told. */
  #over = false;
  /** Whether its end is to be remembered. */
  #keepEnd = true;
  /** All that happens to it, in the background. Never rejects. */
  #life: Promise<void> = Promise.resolve();
  /** Until the server has the news of its end. Never rejects. */
  #telling: Promise<void> = Promise.resolve();

  constructor(parts: WorkloadParts) {
    this.id = parts.id;
    this.request = parts.request;
    this.#parts = parts;
    this.#delivery = new Delivery(parts.feeds);
    this.#record = new RecordFile(parts, () => this.#describe());
    this.#runs = new Runs(parts, {
      save: () => this.#record.save(),
      trySave: () => this.#record.trySave(),
    });
  }

  get finished(): boolean {
    return this.#over || this.#refused;
  }

  get hasRun(): boolean {
    return this.#isJob && this.#runs.any;
  }

  get endTime(): number | undefined {
    return this.#end === undefined ? undefined : Date.parse(this.#end.time);
  }

  /** Services only: a job may have done its work. */
  get lost(): boolean {
    return !this.#isJob && this.finished && this.#end !== undefined && isLost(this.#end);
  }

  get tenant(): Tenant | undefined {
    if (this.finished) return undefined;
    const { reservation, exposePorts: ports } = this.#parts.plan;
    const { namespace, name } = this.request;
    return { namespace, name, reservation: { ...reservation, ports } };
  }

  summary(): WorkloadSummary {
    const { present, restarts } = this.#runs;
    return summarise({
      ...this.#parts,
      state: this.#state,
      startTime: this.#startTime,
      end: this.#end,
      restarts,
      upSince: present?.upSince,
      waitsForCredentials: this.#runs.waitsForCredentials,
      health: present?.health ?? (this.#parts.plan.health && { status: 'starting' }),
    });
  }

  async usage(): Promise<Usage | undefined> {
    return this.#runs.present?.usage();
  }

  async launch(credentials: NatsConnectionData): Promise<void> {
    await this.#runs.give(credentials);
    try {
      await this.#runs.accept();
    } catch (error) {
      this.#refused = true;
      throw error;
    }
    this.#parts.onAccepted();
    this.#life = this.#live(this.#runs.begin());
  }

  /** Remembers one that ended under an earlier node process. */
  static ended(parts: WorkloadParts, record: WorkloadRecord & { end: WorkloadEnd }): Workload {
    const workload = new Workload(parts);
    const { end, startTime } = record;
    workload.#startTime = new Date(startTime);
    workload.#runs.recall(record);
    workload.#end = end;
    workload.#over = true;
    // The news of its end may have been lost with the process that had them.
    if (end.told !== true) workload.#life = workload.#conclude(end);
    return workload;
  }

  /** Goes on with a sandbox that outlived an earlier node process. */
  adopt(sandbox: Sandbox, record: WorkloadRecord): void {
    this.#startTime = new Date(record.startTime);
    this.#life = this.#live(this.#runs.adopt(sandbox, record));
  }

  /** Goes on waiting for its next run, as an earlier node process did. */
  resume(record: WorkloadRecord): void {
    this.#startTime = new Date(record.startTime);
    this.#runs.recall(record);
    this.#life = this.#live(this.#runs.resume());
  }

  /** Its sandbox is gone, and nobody was there to see how it ended. Resolves when it has ended, or waits for its next run. */
  async lose(record: WorkloadRecord): Promise<void> {
    this.#startTime = new Date(record.startTime);
    const last = await this.#runs.lose(record);
    if (last !== undefined) return this.#conclude(last);
    this.#life = this.#live(this.#runs.resume());
  }

  /** Those of its file are replaced; what it got in its environment stays as it is until its next run. */
  async renew(credentials: NatsConnectionData): Promise<void> {
    if (!this.finished) await this.#runs.give(credentials);
  }

  async stop({ keepEnd = false }: { keepEnd?: boolean } = {}): Promise<void> {
    this.#keepEnd = keepEnd;
    this.#delivery.hurry();
    this.#stopping = true;
    await this.#runs.stop(new NixNexletError('NIX_NEXLET_STOPPED', `Workload "${this.id}" was stopped`));
    await this.#life;
    if (!keepEnd) await this.forget();
  }

  async forget(): Promise<void> {
    this.#keepEnd = false;
    this.#delivery.hurry();
    await this.#telling;
    await this.#record.remove();
  }

  /** A first start that is under way is stopped: half of it is nothing that could be handed over. */
  async release(): Promise<void> {
    if (this.finished) return;
    if (this.#stopping || !this.#runs.any) return this.stop();
    this.#delivery.hurry();
    await this.#runs.release();
    await this.#life;
  }

  get #isJob(): boolean {
    return this.request.workload_lifecycle === 'job';
  }

  get #state(): WorkloadState {
    if (this.#refused) return 'stopped';
    if (this.#over && this.#end !== undefined) return this.#end.state;
    if (this.#stopping) return 'stopping';
    return this.#runs.present?.up === true ? 'running' : 'starting';
  }

  async #live(runs: Promise<WorkloadEnd | undefined>): Promise<void> {
    using _closure = this.#parts.hold();
    const end = await runs;
    if (end !== undefined) await this.#conclude(end);
  }

  /**
   * What comes after the last line of its logs. At every moment its record says what is still to be done: to remove its
   * sandbox, to tell of its end, or nothing.
   */
  async #conclude(end: WorkloadEnd): Promise<void> {
    this.#end = end;
    this.#runs.restarts.next = undefined;
    await this.#record.trySave();
    await this.#runs.removeLast();
    this.#over = true;
    tellStopped(this.#parts, end);
    this.#telling = this.#untilTold(end);
  }

  async #untilTold(end: WorkloadEnd): Promise<void> {
    if (!this.#keepEnd || !(await this.#delivery.delivered())) return;
    this.#end = { ...end, told: true };
    if (this.#keepEnd) await this.#record.trySave();
  }

  #describe(): WorkloadRecord {
    const { present, restarts } = this.#runs;
    const { record: restart } = restarts;
    return {
      version: 1,
      id: this.id,
      request: this.request,
      startTime: this.#startTime.toISOString(),
      ...present?.record,
      ...(restart === undefined ? {} : { restart }),
      ...(this.#end === undefined ? {} : { end: this.#end }),
    };
  }
}
