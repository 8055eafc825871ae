import { setTimeout as delay } from 'node:timers/promises';
import type { HealthPlan } from '../request/workload-plan.ts';
import { untilAborted } from '../until-aborted.ts';
import type { Probe, ProbeResult } from './probe.ts';

/** What is known of the health of a run. */
export interface Health {
  /** `starting` until the first success. */
  readonly status: 'starting' | 'healthy' | 'unhealthy';
  /** Why the last check failed; absent after a success. */
  readonly failure?: string;
}

/** The first checks of a run come faster than its interval, so that one that is up is soon known to be, in milliseconds. */
const FIRST_INTERVAL_MS = 50;
/** Of what programs have to say about themselves. */
const MAX_WHY = 200;

export interface HealthWatchOptions {
  /** Whether it was healthy before, as one that is adopted. */
  readonly wasHealthy: boolean;
  /** When its program was started. */
  readonly began: Date;
  readonly onHealth: (health: Health) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Checks a run's health again and again, one check after the other. Resolves when it is to be ended: not healthy within
 * the time that starts may take, or too many failures in a row afterwards; the result completes "it was ended because …".
 * Rejects with the reason of `signal`.
 */
export async function watchHealth(plan: HealthPlan, probe: Probe, options: HealthWatchOptions): Promise<string> {
  const { began, onHealth, signal } = options;
  const deadline = began.getTime() + plan.startTimeoutMs;
  const left = () => deadline - Date.now();
  let wasHealthy = options.wasHealthy;
  let failures = 0;
  let pause = FIRST_INTERVAL_MS;
  // Those of a node that was restarted would all come at once.
  if (wasHealthy) await delay(Math.random() * plan.intervalMs, undefined, { signal });
  for (;;) {
    const result = await checkOnce(plan, probe, signal);
    if (result.kind === 'healthy') {
      wasHealthy = true;
      failures = 0;
      onHealth({ status: 'healthy' });
    } else {
      const why = plain(result.why);
      if (result.kind === 'failed') failures++;
      if (!wasHealthy) onHealth({ status: 'starting', failure: why });
      // Of what it does now nothing is known; it was healthy when something was.
      else if (result.kind === 'failed') onHealth({ status: 'unhealthy', failure: why });
      if (!wasHealthy && left() <= 0) return `it was not healthy within ${plan.startTimeoutMs} ms: ${why}`;
      if (wasHealthy && failures >= plan.retries) return `its health check failed ${failures} times in a row: ${why}`;
    }
    pause = wasHealthy ? plan.intervalMs * (0.9 + 0.2 * Math.random()) : Math.min(2 * pause, plan.intervalMs);
    await delay(wasHealthy ? pause : Math.max(1, Math.min(pause, left())), undefined, { signal });
  }
}

/** A stop does not wait for the check that is under way; it ends by itself. */
async function checkOnce({ timeoutMs }: HealthPlan, probe: Probe, signal: AbortSignal): Promise<ProbeResult> {
  return untilAborted(probe.check(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])), signal);
}

/** One line that harms no terminal. */
function plain(why: string): string {
  return why.replaceAll(/[^\P{C}]+/gu, ' ').slice(0, MAX_WHY);
}
