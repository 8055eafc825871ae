import { describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import { type Candidate, type Goal, planReplicas } from './plan.ts';

const GOAL: Goal = { revision: 2, wanted: 3, maxSurge: 1, proving: false };

function replica(id: string, change: Partial<Candidate> = {}): Candidate {
  const rest = { present: true, running: true, stable: true, failed: false, stopping: false, leaving: false };
  return { id, revision: 2, node: `n${id}`, ...rest, ...change };
}

describe('planReplicas()', () => {
  it('starts what is missing, less what is under way', () => {
    expect(planReplicas(GOAL, [replica('a')], { goal: 1, other: 0 })).toEqual({ start: 1, stop: [] });
  });

  it('replaces none whose node has been silent for a moment only, and stops none for it', () => {
    expect(planReplicas(GOAL, [replica('a'), replica('b'), replica('c', { present: false })])).toEqual({
      start: 0,
      stop: [],
    });
    const back = [replica('a'), replica('b'), replica('c'), replica('d', { present: false })];
    expect(planReplicas(GOAL, back)).toEqual({ start: 0, stop: [] });
  });

  it('stops the surplus on the fullest node, the one that does not run first', () => {
    const crowded = [replica('a'), replica('b', { node: 'x' }), replica('c', { node: 'x' }), replica('d')];
    expect(planReplicas(GOAL, crowded).stop).toEqual(['c']);
    expect(planReplicas(GOAL, [...crowded, replica('e', { running: false })]).stop).toEqual(['e', 'c']);
  });

  it('lets a new revision prove itself before an old replica goes', () => {
    const goal = { ...GOAL, proving: true };
    const old = ['a', 'b', 'c'].map((id) => replica(id, { revision: 1 }));
    expect(planReplicas(goal, old)).toEqual({ start: 1, stop: [] });
    expect(planReplicas(goal, old, { goal: 1, other: 0 })).toEqual({ start: 0, stop: [] });
    expect(planReplicas(goal, [...old, replica('d', { stable: false })])).toEqual({ start: 0, stop: [] });
    expect(planReplicas(goal, [...old, replica('d')])).toEqual({ start: 0, stop: ['c'] });
  });

  it('clears away what failed, and takes what leaves for missing', () => {
    expect(planReplicas(GOAL, [replica('a', { failed: true }), replica('b'), replica('c')])).toEqual({
      start: 1,
      stop: ['a'],
    });
    expect(planReplicas(GOAL, [replica('a', { leaving: true }), replica('b'), replica('c')])).toEqual({
      start: 1,
      stop: [],
    });
  });

  it('never starts more than are missing, never exceeds the surge, and never stops below what is wanted', () => {
    const candidate = fc.record({
      revision: fc.constantFrom(1, 2),
      node: fc.constantFrom('x', 'y', undefined),
      present: fc.boolean(),
      running: fc.boolean(),
      stable: fc.boolean(),
      failed: fc.boolean(),
      stopping: fc.boolean(),
      leaving: fc.boolean(),
    });
    const goals = fc.record({
      revision: fc.constant(2),
      wanted: fc.integer({ min: 0, max: 5 }),
      maxSurge: fc.integer({ min: 1, max: 3 }),
      proving: fc.boolean(),
    });
    const underway = fc.record({ goal: fc.integer({ min: 0, max: 2 }), other: fc.integer({ min: 0, max: 2 }) });
    fc.assert(
      fc.property(goals, fc.array(candidate, { maxLength: 8 }), underway, (goal, some, underway) => {
        const replicas = some.map((one, at) => ({ ...one, id: String(at), stable: one.stable && one.running }));
        const { start, stop } = planReplicas(goal, replicas, underway);
        const alive = replicas.filter(({ failed, stopping }) => !failed && !stopping);
        const targets = alive.filter(({ revision, leaving }) => revision === goal.revision && !leaving);
        expect(start).toBeLessThanOrEqual(Math.max(0, goal.wanted - targets.length - underway.goal));
        if (start > 0 && goal.proving) {
          const total = replicas.filter(({ failed }) => !failed).length + underway.goal + underway.other;
          expect(total + start).toBeLessThanOrEqual(goal.wanted + goal.maxSurge);
        }
        expect(new Set(stop).size).toBe(stop.length);
        const stopped = replicas.filter(({ id }) => stop.includes(id));
        expect(stopped.every(({ present, stopping }) => present && !stopping)).toBe(true);
        const serving = ({ present, running, revision, leaving, stable }: Candidate) =>
          present && running && (revision !== goal.revision || leaving || stable || !goal.proving);
        const before = alive.filter(serving).length;
        const after = alive.filter((one) => serving(one) && !stop.includes(one.id)).length;
        expect(after).toBeGreaterThanOrEqual(Math.min(before, goal.wanted));
      }),
      { numRuns: 2_000 },
    );
  });
});
