import type { RestartPlan } from '../request/workload-plan.ts';

/** The wait between two runs is doubled up to here, in milliseconds; a longer first wait stays what it is. */
export const LONGEST_WAIT_MS = 5 * 60_000;
/** No run follows another one faster, whatever the request says, in milliseconds. */
const SHORTEST_WAIT_MS = 10;
/** A service that ran so long was well, in milliseconds: what was before it does not count any more. */
export const STABLE_MS = 60_000;
/** So many runs in a row that ended within {@link STABLE_MS} are a crash loop. */
const CRASH_LOOP = 3;

/** What of a workload's earlier runs decides about the next one. */
export interface RestartHistory {
  /** How often it was started again, in all. */
  readonly restarts: number;
  /** Runs in a row that failed. */
  readonly failures: number;
  /** Runs in a row that ended soon, well or not. */
  readonly quickEnds: number;
}

export const NO_RESTARTS: RestartHistory = { restarts: 0, failures: 0, quickEnds: 0 };

/** A run that nobody had asked to end. */
export interface EndedRun {
  readonly failed: boolean;
  /** Whether it ran so long that what was before it does not count. Never so of a job: long ones would be retried for ever. */
  readonly stable: boolean;
}

/** That there is to be another run. */
export interface Restart {
  readonly history: RestartHistory;
  readonly waitMs: number;
}

/**
 * What follows a run: another one after a while, or nothing. A run that ends well is followed by another one under
 * `always` only; it does not count as one of `maxRetries`, and ends the count of failures in a row, but is waited after
 * like any other. `random`: from 0 to 1; spreads what failed together.
 */
export function restartAfter(
  { failed, stable }: EndedRun,
  { policy, maxRetries, backoffMs }: RestartPlan,
  { history, random = Math.random() }: { history: RestartHistory; random?: number },
): Restart | undefined {
  const failures = failed ? (stable ? 0 : history.failures) + 1 : 0;
  const quickEnds = stable ? 0 : history.quickEnds + 1;
  if (policy === 'never' || (policy === 'on-failure' && !failed) || failures > maxRetries) return undefined;
  const first = Math.max(backoffMs, SHORTEST_WAIT_MS);
  const doubled = first * 2 ** Math.min(Math.max(quickEnds - 1, 0), 32);
  const waitMs = Math.round(Math.min(doubled, Math.max(first, LONGEST_WAIT_MS)) * (1 - 0.2 * random));
  return { history: { restarts: history.restarts + 1, failures, quickEnds }, waitMs };
}

/** Whether it ended so often, each time soon after its start, that there is no hope that the next run goes better. */
export function isCrashLoop({ quickEnds }: RestartHistory): boolean {
  return quickEnds >= CRASH_LOOP;
}
