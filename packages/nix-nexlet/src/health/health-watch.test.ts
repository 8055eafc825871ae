import { describe, expect, it } from 'vitest';
import type { HealthPlan } from '../request/workload-plan.ts';
import { type Health, watchHealth } from './health-watch.ts';
import type { Probe, ProbeResult } from './probe.ts';

const PLAN: HealthPlan = {
  probe: { kind: 'tcp', port: 1 },
  intervalMs: 5,
  timeoutMs: 20,
  retries: 3,
  startTimeoutMs: 60_000,
};
const results: Readonly<Record<string, ProbeResult>> = {
  h: { kind: 'healthy' },
  f: { kind: 'failed', why: 'no\u001B[31m\nanswer' },
  u: { kind: 'unknown', why: 'no server' },
};

/** Answers as `script` says, then aborts. */
function scripted(script: string, abort: () => void): Probe {
  const left = script.split('');
  return {
    check: async () => {
      const next = results[left.shift() ?? ''];
      if (next === undefined) abort();
      return next ?? { kind: 'healthy' };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** What comes of a run whose checks end as `script` says, and what was known of it on the way. */
async function watch(script: string, plan: Partial<HealthPlan> = {}, wasHealthy = false) {
  const abort = new AbortController();
  const seen: Health[] = [];
  const verdict = await watchHealth(
    { ...PLAN, ...plan },
    scripted(script, () => abort.abort()),
    {
      wasHealthy,
      began: new Date(),
      onHealth: (health) => seen.push(health),
      signal: abort.signal,
    },
  ).catch((error: unknown) => {
    if (error !== abort.signal.reason) throw error;
    return undefined;
  });
  return { verdict, seen: seen.map(({ status }) => status.slice(0, 1)).join(''), last: seen.at(-1) };
}

describe('watchHealth()', () => {
  it('lets a run fail as often as it likes before it is up, and ends it after so many failures in a row then', async () => {
    const { verdict, seen, last } = await watch('ffffhffhfff');
    expect(verdict).toBe('its health check failed 3 times in a row: no [31m answer');
    expect(seen).toBe('sssshuuhuuu');
    expect(last).toEqual({ status: 'unhealthy', failure: 'no [31m answer' });
  });

  it('ends a run that is not healthy in time', async () => {
    const { verdict, seen } = await watch('f'.repeat(1_000), { startTimeoutMs: 60, retries: 1 });
    expect(verdict).toBe('it was not healthy within 60 ms: no [31m answer');
    expect(seen).toMatch(/^s{2,}$/);
  });

  it('holds nothing against a run while nothing can be known', async () => {
    expect(await watch('huuuuuuuuh')).toMatchObject({ verdict: undefined, seen: 'hh' });
    expect((await watch('hfuf', { retries: 2 })).verdict).toMatch(/^its health check failed 2 times/);
  });

  it('goes on with one that was healthy before', async () => {
    expect((await watch('fff', {}, true)).verdict).toMatch(/^its health check failed 3 times/);
  });

  it('never has two checks at once, and ends the one that takes too long', async () => {
    let running = 0;
    let most = 0;
    const probe: Probe = {
      check: async (signal) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        running--;
        return { kind: 'failed', why: 'in time' };
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
    const options = { wasHealthy: true, began: new Date(), onHealth: () => undefined };
    const verdict = await watchHealth(PLAN, probe, { ...options, signal: new AbortController().signal });
    expect(verdict).toMatch(/3 times in a row/);
    expect(most).toBe(1);
  });
});
