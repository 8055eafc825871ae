import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { startRealNode } from '../../bench/src/rows/real-node.ts';

const SERVICES = 30;

describeWith(['nats-server', 'crun', 'busybox'], 'a node with many services', () => {
  it(
    'starts, lists and stops all of them, several at once, and nothing is left over',
    { timeout: 60_000 },
    async () => {
      await using node = await startRealNode();
      const ids = await node.startServices(SERVICES);
      expect(new Set(ids).size).toBe(SERVICES);
      const { workloads } = await node.client.listWorkloads();
      expect(workloads.map(({ id, workload_state: state }) => `${id} ${state}`).sort()).toEqual(
        ids.map((id) => `${id} running`).sort(),
      );
      await node.stopServices(ids);
      expect((await node.client.listWorkloads()).workloads).toEqual([]);
      expect(await node.leftovers(ids)).toEqual([]);
    },
  );
});
