import type { RestartPlan } from '../request/workload-plan.ts';
import {
  isCrashLoop,
  LONGEST_WAIT_MS,
  NO_RESTARTS,
  type Restart,
  restartAfter,
  type RestartHistory,
  STABLE_MS,
} from './restart-policy.ts';
import type { WorkloadEnd } from './workload-end.ts';
import type { RestartRecord } from './workload-record.ts';

/** That a run has ended and another one follows. */
export interface Followed {
  /** How it ended. */
  readonly last: WorkloadEnd;
  /** The coming one included. */
  readonly restarts: number;
  /** When the next one is to begin. */
  readonly next: Date;
}

/** How often a workload was started again and why; and when it will be, while nothing runs. */
export class Restarts {
  readonly #plan: RestartPlan;
  readonly #isJob: boolean;
  #history: RestartHistory = NO_RESTARTS;
  #last: WorkloadEnd | undefined;
  /** Set while a run is to come. */
  next: Date | undefined;

  constructor(plan: RestartPlan, { isJob }: { isJob: boolean }) {
    this.#plan = plan;
    this.#isJob = isJob;
  }

  /** How often. */
  get count(): number {
    return this.#history.restarts;
  }

  /** How the last run ended; undefined before the first end. */
  get last(): WorkloadEnd | undefined {
    return this.#last;
  }

  get record(): RestartRecord | undefined {
    if (this.#last === undefined) return undefined;
    const next = this.next === undefined ? {} : { next: this.next.toISOString() };
    return { history: this.#history, last: this.#last, ...next };
  }

  recall({ restart }: { restart?: RestartRecord }): void {
    this.#history = restart?.history ?? NO_RESTARTS;
    this.#last = restart?.last;
    this.next = restart?.next === undefined ? undefined : new Date(restart.next);
  }

  /** Whether one run after the other ended soon. `upSince`: since when the present one does its work; it may do better. */
  isCrashLoop(upSince: Date | undefined): boolean {
    if (this.#isJob || !isCrashLoop(this.#history)) return false;
    return upSince === undefined || Date.now() - upSince.getTime() < STABLE_MS;
  }

  /** Whether another run follows one that ended so. `upSince`: since when it had done its work; undefined: it never did. */
  isFollowed(end: WorkloadEnd, upSince: Date | undefined): boolean {
    return this.#after(end, upSince) !== undefined;
  }

  /** Takes note of an end. Undefined when no other run follows. */
  follow(end: WorkloadEnd, upSince: Date | undefined): Followed | undefined {
    const restart = this.#after(end, upSince);
    if (restart === undefined) return undefined;
    this.#history = restart.history;
    this.#last = end;
    this.next = new Date(Date.now() + restart.waitMs);
    return { last: end, restarts: this.count, next: this.next };
  }

  /** The end of the last run, as that of the workload. */
  givenUp(end: WorkloadEnd): WorkloadEnd {
    const { failures } = this.#history;
    if (end.error === undefined || failures === 0) return end;
    const often = `${failures} ${failures === 1 ? 'retry' : 'retries'}`;
    return { ...end, error: { ...end.error, message: `${end.error.message}; given up after ${often}` } };
  }

  /** How long it is until the next run, in milliseconds: no longer than any wait, if the clock was set back. */
  get waitMs(): number {
    const longest = Math.max(LONGEST_WAIT_MS, this.#plan.backoffMs);
    return Math.min(Math.max(0, (this.next?.getTime() ?? 0) - Date.now()), longest);
  }

  #after(end: WorkloadEnd, upSince: Date | undefined): Restart | undefined {
    const upMs = upSince === undefined ? 0 : Date.parse(end.time) - upSince.getTime();
    const stable = !this.#isJob && upMs >= STABLE_MS;
    return restartAfter({ failed: end.error !== undefined, stable }, this.#plan, { history: this.#history });
  }
}
