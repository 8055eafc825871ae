import { expect, it } from 'vitest';
import { lifeOf, othersOf, usageOf } from './workload-facts.ts';

it('says in a list only what is out of the ordinary', () => {
  expect(lifeOf()).toBe('');
  expect(lifeOf({ restarts: '0', health: 'healthy' })).toBe('');
  expect(lifeOf({ restarts: '1', health: 'unhealthy', exit_code: '3' })).toBe('unhealthy, exit code 3, 1 restart');
  expect(lifeOf({ invocations: '12', failed_invocations: '2' })).toBe('12 invocations, 2 failed');
});

it("shows what a workload uses in people's units, and what is not known not at all", () => {
  const usage = {
    cpu_percent: '12.5',
    cpu_seconds: '75.25',
    memory_bytes: '3145728',
    memory_peak_bytes: '4194304',
    pids: '3',
    network_rx_bytes: '2048',
    network_tx_bytes: '10',
    invocations: '4',
    invocation_seconds: '0.1',
  };
  expect(usageOf(usage)).toEqual([
    ['Processor', '12.5 %, 1m 15s so far'],
    ['Memory', '3.0 MiB, peak 4.0 MiB'],
    ['Processes', '3'],
    ['Network', 'in 2.0 KiB, out 10 B'],
    ['Invocations', '4, 25.0 ms on average'],
    ['Failures', undefined],
  ]);
  expect(usageOf({ memory_bytes: '1024', machine_memory_bytes: '4194304' })).toContainEqual([
    'Memory',
    '1.0 KiB, its machine 4.0 MiB',
  ]);
  expect(usageOf({ memory_bytes: 'much' }).filter(([, value]) => value !== undefined)).toEqual([]);
  expect(othersOf({ ...usage, owner: 'ann' })).toEqual({ owner: 'ann' });
});
