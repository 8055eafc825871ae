import type { Feeds } from '@nex-nix/nexlet';
import { silentLogger } from '@nex-nix/nexlet';
import type { Usage } from '@nex-nix/sandbox';
import { waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { figuresOf, sampleOf } from './usage-sample.ts';
import { type Measured, UsageSampler } from './usage-sampler.ts';

const request = { namespace: 'default', name: 'echo' };

function measured(id: string, usage: () => Promise<Usage | undefined>): Measured & { finished: boolean } {
  return { id, request, finished: false, usage };
}

/** Feeds that keep what is published, and say that it was heard when they are told to. */
function recordingFeeds() {
  const published: Record<string, unknown>[] = [];
  const state = { published, heard: Promise.resolve() };
  const feeds = {
    metric: (_namespace: string, _id: string, data: string) => published.push(JSON.parse(data) as never) > 0,
    flushed: () => state.heard,
  } as unknown as Feeds;
  return Object.assign(state, { feeds });
}

describe('UsageSampler', () => {
  it('measures every workload once an interval, spread over it, and publishes what it finds', async () => {
    const times = new Map<string, number[]>();
    const workloads = Array.from({ length: 20 }, (_, index) =>
      measured(`w${index}`, async () => {
        times.set(`w${index}`, [...(times.get(`w${index}`) ?? []), performance.now()]);
        return { memory: 4096, memoryPeak: 8192, cpuMicros: 1_500_000, pids: 2, network: { received: 1, sent: 2 } };
      }),
    );
    const { feeds, published } = recordingFeeds();
    await using sampler = new UsageSampler({ workloads: () => workloads, intervalMs: 400, logger: silentLogger });
    sampler.start(feeds);
    await waitFor('two samples of each', () => workloads.every(({ id }) => (times.get(id)?.length ?? 0) >= 2));
    for (const [first = 0, second = 0] of times.values()) expect(second - first).toBeGreaterThan(300);
    const firsts = [...times.values()].map(([first = 0]) => first);
    expect(Math.max(...firsts) - Math.min(...firsts)).toBeGreaterThan(200);
    expect(published[0]).toEqual({
      id: 'w0',
      name: 'echo',
      namespace: 'default',
      time: expect.stringMatching(/^\d{4}-.*Z$/) as unknown,
      cpu_seconds: 1.5,
      memory_bytes: 4096,
      memory_peak_bytes: 8192,
      pids: 2,
      network_rx_bytes: 1,
      network_tx_bytes: 2,
    });
    const [first] = workloads;
    expect(first && sampler.metadataOf(first)).toMatchObject({ cpu_percent: '0', memory_bytes: '4096', pids: '2' });
  });

  it('forgets what a workload used when there is nothing to measure, it fails or it has ended', async () => {
    let answer: () => Promise<Usage | undefined> = async () => ({ pids: 1 });
    const workload = measured('one', () => answer());
    await using sampler = new UsageSampler({ workloads: () => [workload], intervalMs: 20, logger: silentLogger });
    sampler.start(recordingFeeds().feeds);
    const isKnown = () => sampler.metadataOf(workload)['pids'] === '1';
    await waitFor('a sample', isKnown);
    answer = async () => undefined;
    await waitFor('it to be forgotten', () => !isKnown());
    answer = async () => ({ pids: 1 });
    await waitFor('the next one', isKnown);
    answer = () => Promise.reject(new Error('gone'));
    await waitFor('it to be forgotten', () => !isKnown());
    answer = async () => ({ pids: 1 });
    await waitFor('the next one', isKnown);
    workload.finished = true;
    expect(isKnown()).toBe(false);
  });

  it('goes on measuring, and publishes nothing, while the server does not hear it', async () => {
    let count = 0;
    const workload = measured('one', async () => ({ pids: ++count }));
    const recorded = recordingFeeds();
    const { promise: back, resolve: comeBack } = Promise.withResolvers<void>();
    recorded.heard = back;
    await using sampler = new UsageSampler({ workloads: () => [workload], intervalMs: 20, logger: silentLogger });
    sampler.start(recorded.feeds);
    await waitFor('some samples', () => count > 4);
    expect(recorded.published).toHaveLength(1);
    comeBack();
    await waitFor('the next one', () => recorded.published.length > 1);
  });

  it('takes no second sample of a workload while the first is under way', async () => {
    let under = 0;
    let most = 0;
    const slow = Promise.withResolvers<undefined>();
    const workload = measured('one', async () => {
      most = Math.max(most, ++under);
      await slow.promise;
      under--;
      return undefined;
    });
    await using sampler = new UsageSampler({ workloads: () => [workload], intervalMs: 20, logger: silentLogger });
    sampler.start(recordingFeeds().feeds);
    await waitFor('it to begin', () => under === 1);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(most).toBe(1);
    slow.resolve(undefined);
  });
});

describe('sampleOf()', () => {
  it('gives processor time of one processor since the sample before', () => {
    const first = sampleOf({ cpuMicros: 1_000_000 }, 1_000, undefined);
    expect(first.cpuPercent).toBeUndefined();
    expect(sampleOf({ cpuMicros: 2_500_000 }, 2_000, first).cpuPercent).toBe(150);
  });

  it('begins anew with a program that was started again', () => {
    const first = sampleOf({ cpuMicros: 9_000_000 }, 1_000, undefined);
    expect(sampleOf({ cpuMicros: 1_000 }, 2_000, first).cpuPercent).toBeUndefined();
    expect(figuresOf(sampleOf({ cpuMicros: 1_000 }, 2_000, first))).toEqual({ cpu_seconds: 0.001 });
  });
});
