import type { WorkloadSummary } from '@nex-nix/protocol';
import { describe, expect, it } from 'vitest';
import type { DesiredWorkload } from './desired-workload.ts';
import { type Observation, planReconcile } from './reconcile-plan.ts';

type Lifecycle = DesiredWorkload['request']['workload_lifecycle'];

const wanted = (
  id: string,
  progress: DesiredWorkload['progress'] = 'accepted',
  lifecycle: Lifecycle = 'service',
): DesiredWorkload => ({
  id,
  request: {
    description: '',
    name: id,
    namespace: 'default',
    run_request: '{}',
    tags: {},
    workload_lifecycle: lifecycle,
    workload_type: 'x',
  },
  progress,
  since: new Date(0),
});

const listed = (id: string, state: WorkloadSummary['workload_state'], lifecycle = 'service'): WorkloadSummary => ({
  id,
  name: id,
  namespace: 'default',
  runtime: '--',
  start_time: '',
  tags: {},
  workload_lifecycle: lifecycle,
  workload_state: state,
  workload_type: 'x',
});

const plan = (observation: Partial<Observation>) =>
  planReconcile({
    listed: [],
    wanted: [],
    isRemoved: () => false,
    isAbsent: () => true,
    wasPlaced: () => false,
    ...observation,
  }).map((step) => `${step.kind} ${'workload' in step ? step.workload.id : step.id}`);

describe('planReconcile()', () => {
  it.each(['starting', 'running', 'warm'] as const)('adopts what is %s and nobody wrote down', (state) => {
    expect(plan({ listed: [listed('a', state)] })).toEqual(['adopt a']);
  });

  it('stops what was removed and runs all the same, and leaves what has ended', async () => {
    const isRemoved = () => true;
    expect(plan({ listed: [listed('a', 'running')], isRemoved })).toEqual(['stop a']);
    for (const state of ['stopping', 'stopped', 'error'] as const)
      expect(plan({ listed: [listed('a', state)], isRemoved })).toEqual([]);
  });

  it('starts services that are not there, however far they had come, but none that nobody was promised', () => {
    expect(plan({ wanted: [wanted('a'), wanted('b', 'started'), wanted('c', 'starting')] })).toEqual([
      'start a',
      'start b',
      'forget c',
    ]);
  });

  it('starts a job only when it never began', () => {
    expect(plan({ wanted: [wanted('a', 'accepted', 'job'), wanted('b', 'started', 'job')] })).toEqual([
      'start a',
      'forget b',
    ]);
    expect(plan({ wanted: [wanted('a', 'accepted', 'job')], wasPlaced: () => true })).toEqual(['forget a']);
  });

  it('does nothing about what may be there although it is not listed', () => {
    const everything = [wanted('a'), wanted('b', 'starting'), wanted('c', 'accepted', 'job')];
    expect(plan({ wanted: everything, isAbsent: () => false })).toEqual([]);
  });

  it('notes what began, and forgets jobs that ended; services that ended are left to their nexlet', () => {
    const all = [wanted('a'), wanted('b', 'starting'), wanted('c', 'accepted', 'job'), wanted('d', 'started')];
    expect(
      plan({
        wanted: all,
        listed: [listed('a', 'starting'), listed('b', 'running'), listed('c', 'error', 'job'), listed('d', 'error')],
      }),
    ).toEqual(['started b', 'forget c']);
  });
});
