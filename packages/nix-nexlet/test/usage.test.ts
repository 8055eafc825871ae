import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Network, openNode, startNetwork, TOOLS, User } from './bed.ts';

describeWith(TOOLS, 'what workloads use', () => {
  let network: Network;
  let user: User;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());

  it('is in lists and on the metrics feed while they run', async () => {
    const { nc, key } = network;
    const samples: Record<string, unknown>[] = [];
    nc.subscribe('$NEX.FEED.default.metrics.>', { callback: (_error, msg) => void samples.push(msg.json()) });
    await nc.flush();
    const stateDir = join(network.dir.path, 'usage');
    await using _node = await openNode({ nc, key, stateDir, metricsMs: 200 });
    const busy = await user.start('while :; do :; done', { resources: { cpus: 0.2, memory: '32MiB' } });
    const metadata = await waitFor('its usage', async () => {
      const found = await user.find(busy);
      return Number(found?.metadata?.['cpu_percent']) > 1 && found?.metadata;
    });
    expect(Number(metadata['cpu_percent'])).toBeLessThan(90);
    expect(Number(metadata['cpu_seconds'])).toBeGreaterThan(0);
    expect(Number(metadata['memory_bytes'])).toBeGreaterThan(0);
    expect(Number(metadata['memory_bytes'])).toBeLessThanOrEqual(Number(metadata['memory_peak_bytes']));
    expect(Number(metadata['pids'])).toBeGreaterThan(0);
    const published = await waitFor('a sample', () => samples.findLast((sample) => sample['id'] === busy));
    expect(published).toMatchObject({
      name: 'job',
      namespace: 'default',
      time: expect.stringMatching(/^\d{4}-/) as unknown,
      cpu_seconds: expect.any(Number) as unknown,
      pids: Number(metadata['pids']),
    });

    const done = await user.start('exit 0', {}, 'job');
    expect((await user.state(done, 'stopped')).metadata).not.toHaveProperty('cpu_seconds');
    await user.client.stopWorkload(busy);
  });
});
