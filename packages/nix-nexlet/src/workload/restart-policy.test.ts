import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCrashLoop, LONGEST_WAIT_MS, NO_RESTARTS, restartAfter, type RestartHistory } from './restart-policy.ts';

const FAILED = { failed: true, stable: false };
const ALWAYS = { policy: 'always', maxRetries: Infinity, backoffMs: 1_000 } as const;

/** The waits after runs that end so, one after the other, until there is no other run. */
function waits(
  runs: readonly { failed: boolean; stable: boolean }[],
  plan: Parameters<typeof restartAfter>[1],
): number[] {
  let history: RestartHistory = NO_RESTARTS;
  const found: number[] = [];
  for (const run of runs) {
    const next = restartAfter(run, plan, { history, random: 0 });
    if (next === undefined) break;
    found.push(next.waitMs);
    history = next.history;
  }
  return found;
}

describe('restartAfter()', () => {
  it('waits twice as long after each failure, up to five minutes, and starts over after a stable run', () => {
    const failures = Array.from({ length: 11 }, () => FAILED);
    expect(waits(failures, ALWAYS).map((ms) => ms / 1_000)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    expect(waits([FAILED, FAILED, FAILED, { failed: true, stable: true }, FAILED], ALWAYS)).toEqual([
      1_000, 2_000, 4_000, 1_000, 1_000,
    ]);
  });

  it('gives up after so many failures in a row; what ended well is none of them, and is waited after nevertheless', () => {
    const plan = { ...ALWAYS, maxRetries: 2 };
    const well = { failed: false, stable: false };
    expect(waits([FAILED, FAILED, FAILED, FAILED], plan)).toHaveLength(2);
    expect(waits([FAILED, FAILED, well, FAILED, FAILED, FAILED, FAILED], plan)).toEqual([
      1_000, 2_000, 4_000, 8_000, 16_000,
    ]);
    expect(waits([FAILED], { ...plan, maxRetries: 0 })).toEqual([]);
  });

  it('leaves alone what ended well under on-failure, and everything under never', () => {
    const well = { failed: false, stable: true };
    expect(waits([FAILED, well], { ...ALWAYS, policy: 'on-failure' })).toHaveLength(1);
    expect(waits([FAILED], { ...ALWAYS, policy: 'never' })).toEqual([]);
  });

  it('never waits longer than five minutes or the first wait, nor less than four fifths of the last wait or 10 ms', () => {
    const run = fc.record({ failed: fc.boolean(), stable: fc.boolean() });
    const options = fc.record({
      runs: fc.array(run, { maxLength: 60 }),
      backoffMs: fc.integer({ min: 0, max: 3_600_000 }),
      random: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(options, ({ runs, backoffMs, random }) => {
        let history = NO_RESTARTS;
        let before = 0;
        for (const ended of runs) {
          const next = restartAfter(ended, { ...ALWAYS, backoffMs }, { history, random });
          expect(next).toBeDefined();
          if (next === undefined) return;
          expect(next.waitMs).toBeLessThanOrEqual(Math.max(LONGEST_WAIT_MS, backoffMs));
          expect(next.waitMs).toBeGreaterThanOrEqual(8);
          if (!ended.stable) expect(next.waitMs).toBeGreaterThanOrEqual(Math.floor(before * 0.8));
          expect(next.history.restarts).toBe(history.restarts + 1);
          ({ history, waitMs: before } = next);
        }
      }),
    );
  });

  it('calls the third run in a row that ends soon a crash loop', () => {
    const loops = [0, 1, 2, 3].map((quickEnds) => isCrashLoop({ ...NO_RESTARTS, quickEnds }));
    expect(loops).toEqual([false, false, false, true]);
  });
});
