import { setTimeout as delay } from 'node:timers/promises';
import { toPublicError } from '@nex-nix/errors';
import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import type { LogEntry, LogPosition, Sandbox, Usage } from '@nex-nix/sandbox';
import { type Health, watchHealth } from '../health/health-watch.ts';
import type { Probe } from '../health/probe.ts';
import type { WorkloadPlan } from '../request/workload-plan.ts';
import { Delivery } from './delivery.ts';
import { askedEarly, followLogs, type LogSink, type Published, START_OF_LOGS } from './follow-logs.ts';
import { endOf, exitOf, type WorkloadEnd } from './workload-end.ts';
import type { WorkloadRecord, WorkloadRecords } from './workload-record.ts';

/** What does not end although its health says so is told again, in milliseconds. */
const STOP_AGAIN_MS = 10_000;

/** How long the last lines of a run wait for the NATS server before the next run begins without them, in milliseconds. */
const LINES_PATIENCE_MS = 10_000;

const NOT_WRITTEN =
  'how far the logs of a workload are published cannot be written down: after a kill they may come twice';

const STREAMS = ['stdout', 'stderr'] as const;

/** What of a workload's record is about its present run. */
export type RunRecord = Pick<WorkloadRecord, 'sandbox' | 'began' | 'logPosition' | 'up'>;

export interface RunParts {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly feeds: Feeds;
  readonly records: WorkloadRecords;
  readonly logger: Logger;
  /** How its health is checked; undefined when it is not. */
  readonly openProbe: (() => Probe) | undefined;
  /** Whether another run follows one that has ended so: then its last lines do not wait long for the NATS server. */
  readonly isFollowed: (end: WorkloadEnd, upSince: Date | undefined) => boolean;
  /** It does its work: its program runs, and is healthy where that is checked. Once, and not of one that was up before. */
  readonly onUp: () => void;
  /** What is to be written down has changed. Never rejects. */
  readonly save: () => Promise<void>;
}

/** What is known of a run that an earlier process began. */
export type FormerRun = Pick<RunRecord, 'logPosition' | 'up'> & { readonly began: string };

/** Whether it did its work when that was written down. */
export function wasUp({ up, logPosition }: Pick<RunRecord, 'up' | 'logPosition'>): boolean {
  // Earlier versions wrote down a position once they had told that it runs.
  return up ?? logPosition !== undefined;
}

/** One run of a workload's program, in a sandbox of its own: from its start to the last line of its logs. */
export class Run {
  readonly #sandbox: Sandbox;
  readonly #parts: RunParts;
  readonly #delivery: Delivery;
  readonly #over = new AbortController();
  #began: Date | undefined;
  #ended: Promise<WorkloadEnd | undefined> = Promise.resolve(undefined);
  #logPosition: LogPosition | undefined;
  /** Its lines from there on. */
  #entries: AsyncIterable<LogEntry>;
  #upSince: Date | undefined;
  #health: Health | undefined;
  #alive = false;
  /** Whether an earlier process began it, and may have published more than it wrote down. */
  readonly #isFormer: boolean;
  #wanted = false;
  #released = false;
  /** Why its node ends it. */
  #unhealthy: string | undefined;

  /** `sandbox`: one that is still to be started, or that of `former`. */
  constructor(sandbox: Sandbox, parts: RunParts, former?: FormerRun) {
    this.#sandbox = sandbox;
    this.#parts = parts;
    this.#delivery = new Delivery(parts.feeds);
    this.#isFormer = former !== undefined;
    if (former !== undefined) {
      this.#logPosition = former.logPosition;
      if (wasUp(former)) this.#upSince = new Date(former.began);
    }
    this.#entries = sandbox.logs(this.#logPosition ?? START_OF_LOGS, { follow: true });
    if (parts.openProbe !== undefined) this.#health = { status: this.up ? 'healthy' : 'starting' };
    if (former !== undefined) this.#begin(new Date(former.began));
  }

  /** Resolves when its program has been executed. One that could not be started is still to be removed. */
  async start(signal: AbortSignal): Promise<void> {
    this.#entries = askedEarly(this.#entries);
    await this.#sandbox.start({ signal });
    this.#begin(new Date());
  }

  #begin(began: Date): void {
    this.#began = began;
    this.#alive = true;
    this.#ended = this.#supervise(began);
  }

  /** Resolves when it has ended and its logs are published; with undefined when it was let go of before. Never rejects. */
  get ended(): Promise<WorkloadEnd | undefined> {
    return this.#ended;
  }

  /** Whether it does its work, as far as that is checked. */
  get up(): boolean {
    return this.#upSince !== undefined;
  }

  /** Since when it does; of one that an earlier process began, since it was started. */
  get upSince(): Date | undefined {
    return this.#upSince;
  }

  /** Undefined when it is not checked. */
  get health(): Health | undefined {
    return this.#health;
  }

  get record(): RunRecord {
    return {
      sandbox: this.#sandbox.record,
      ...(this.#began === undefined ? {} : { began: this.#began.toISOString(), up: this.up }),
      ...(this.#logPosition === undefined ? {} : { logPosition: this.#logPosition }),
    };
  }

  /** Undefined when it does not run any more. */
  async usage(): Promise<Usage | undefined> {
    return this.#alive && !this.#released ? this.#sandbox.usage() : undefined;
  }

  /** Somebody waits for its end, or to let go of it: a server that is away is not waited for long. */
  hurry(): void {
    this.#delivery.hurry();
  }

  /** Ends it because somebody asked for it; resolves when nothing of it is alive. May be called again after it failed. */
  async stop(): Promise<void> {
    this.#wanted = true;
    this.#over.abort();
    this.hurry();
    if (this.#alive) await this.#sandbox.stop(this.#parts.plan.stop);
  }

  /** Lets go of it without ending it. */
  async release(): Promise<void> {
    this.#released = true;
    this.#over.abort();
    this.hurry();
    await this.#sandbox[Symbol.asyncDispose]();
    await this.ended;
  }

  /** See {@link Sandbox.replaceFile}. */
  async replaceFile(name: string, content: string): Promise<boolean> {
    return this.#released ? false : this.#sandbox.replaceFile(name, content);
  }

  /** Removes its sandbox. What cannot be removed is cleared away by the next run of the workload, or by the next node. */
  async remove(): Promise<void> {
    await this.#attempt('what is left of its sandbox cannot be removed', async () => {
      try {
        await this.#sandbox.remove();
        await this.#parts.records.removeBookmark(this.#parts.id);
      } finally {
        await this.#sandbox[Symbol.asyncDispose]();
      }
    });
  }

  async #supervise(began: Date): Promise<WorkloadEnd | undefined> {
    // The caller is to know of it before anybody is told.
    await Promise.resolve();
    if (this.#parts.openProbe === undefined) this.#nowUp();
    this.#logPosition ??= START_OF_LOGS;
    const saved = this.#parts.save();
    const health = this.#watchHealth(began);
    const logs = this.#publishLogs();
    const end = await this.#untilExit();
    this.#alive = false;
    this.#over.abort();
    await health;
    const timer =
      end && this.#parts.isFollowed(end, this.#upSince) && setTimeout(() => this.hurry(), LINES_PATIENCE_MS);
    await logs;
    await saved;
    if (timer) clearTimeout(timer);
    // Removing it is left to whoever adopts it, as are the last lines and the news of its end.
    return this.#released ? undefined : end;
  }

  async #untilExit(): Promise<WorkloadEnd | undefined> {
    try {
      const exit = await exitOf(this.#sandbox);
      return exit && endOf(exit, { wanted: this.#wanted, unhealthy: this.#unhealthy });
    } catch (error) {
      const { code, message } = toPublicError(error);
      this.#parts.logger.error({ workload: this.#parts.id, code, err: error }, message);
      return { state: 'error', time: new Date().toISOString(), error: { code, message } };
    }
  }

  #nowUp(): void {
    if (this.up) return;
    this.#upSince = new Date();
    this.#parts.onUp();
  }

  async #watchHealth(began: Date): Promise<void> {
    const { plan, openProbe, logger, id } = this.#parts;
    if (plan.health === undefined || openProbe === undefined) return;
    const { signal } = this.#over;
    try {
      await using probe = openProbe();
      const onHealth = (health: Health) => {
        this.#health = health;
        if (health.status === 'healthy' && !this.up) {
          this.#nowUp();
          void this.#parts.save();
        }
      };
      const options = { wasHealthy: this.up, began, onHealth, signal };
      const why = await watchHealth(plan.health, probe, options);
      this.#unhealthy = why;
      this.#health = { status: 'unhealthy', failure: why };
    } catch (error) {
      if (signal.aborted) return;
      logger.error({ workload: id, err: error }, `workload "${id}": its health cannot be checked`);
      this.#unhealthy = `its health cannot be checked: ${error instanceof Error ? error.message : String(error)}`;
    }
    await this.#endUnhealthy();
  }

  async #endUnhealthy(): Promise<void> {
    const { signal } = this.#over;
    this.#parts.logger.warn({ workload: this.#parts.id, why: this.#unhealthy }, 'unhealthy workload is ended');
    while (!signal.aborted) {
      await this.#attempt('it cannot be ended', () => this.#sandbox.stop(this.#parts.plan.stop));
      await delay(STOP_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #publishLogs(): Promise<void> {
    const { feeds, request, id, records, logger } = this.#parts;
    const run = this.#sandbox.record.instance;
    await this.#attempt('its logs cannot be read on', async () => {
      using bookmark = records.bookmark(id, run);
      let failed = false;
      const sink: LogSink = {
        publish: ({ stream, line, lost, position }, options) => {
          // The notice of a loss is not at the place of any line.
          const place = lost === undefined ? { run, position: position[stream] } : undefined;
          return feeds.log(request.namespace, id, stream, line, { ...options, place });
        },
        delivered: () => this.#delivery.delivered(),
        save: (position) => {
          this.#logPosition = position;
          try {
            bookmark.write(position);
          } catch (error) {
            // Once: the next batch is some milliseconds away.
            if (!failed) logger.error({ workload: id, err: error }, NOT_WRITTEN);
            failed = true;
          }
        },
      };
      await followLogs(this.#entries, sink, this.#isFormer ? await this.#published(run) : {});
    });
  }

  /** What the stream of feeds says about it, which may be more than the last process had time to write down. */
  async #published(run: string): Promise<Published> {
    const { feeds, request, id, logger } = this.#parts;
    const found: Published = {};
    try {
      for (const last of await Promise.all(STREAMS.map((stream) => feeds.lastLog(request.namespace, id, stream)))) {
        if (last?.run === run) found[last.stream] = last;
      }
    } catch (error) {
      logger.warn({ workload: id, err: error }, 'the stream NEX_FEED cannot be asked: log lines may come twice');
    }
    return found;
  }

  /** Does what the run can go on without. */
  async #attempt(failure: string, action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (error) {
      const { logger, id } = this.#parts;
      logger.error({ workload: id, err: error }, `workload "${id}": ${failure}`);
    }
  }
}
