import { describe, expect, it } from 'vitest';
import type { Hierarchy } from './cgroup-layout.ts';
import { limitWrites, pidsLimit, unsupportedLimits } from './cgroup-limits.ts';

const V1_MEMORY: Hierarchy = { version: 1, mountPoint: '/m', parent: '/m/nex-nix', controllers: ['memory'] };
const V1_CPU: Hierarchy = { version: 1, mountPoint: '/c', parent: '/c/nex-nix', controllers: ['cpu', 'cpuacct'] };
const V2: Hierarchy = { version: 2, mountPoint: '/u', parent: '/u/nex-nix', controllers: ['memory', 'pids', 'cpu'] };
const ALL = { memory: 1 << 20, cpus: 0.5, pids: 10 };

describe('limitWrites()', () => {
  it('limits memory before memory and swap together in version 1', () => {
    expect(limitWrites(V1_MEMORY, ALL)).toEqual([
      { file: 'memory.limit_in_bytes', value: '1048576' },
      { file: 'memory.memsw.limit_in_bytes', value: '1048576', optional: true },
    ]);
  });

  it('turns cores into a quota of the period', () => {
    expect(limitWrites(V1_CPU, ALL)).toEqual([
      { file: 'cpu.cfs_period_us', value: '100000' },
      { file: 'cpu.cfs_quota_us', value: '50000' },
    ]);
    expect(limitWrites(V1_CPU, { cpus: 2 })[1]?.value).toBe('200000');
  });

  it('writes all of version 2 to one folder, without swap', () => {
    expect(limitWrites(V2, ALL)).toEqual([
      { file: 'memory.max', value: '1048576' },
      { file: 'memory.swap.max', value: '0', optional: true },
      { file: 'pids.max', value: '14' },
      { file: 'cpu.max', value: '50000 100000' },
    ]);
    expect(pidsLimit(10)).toBe('11');
  });

  it('writes nothing that was not asked for', () => {
    expect(limitWrites(V2, {})).toEqual([]);
    expect(limitWrites(V2, { tmp: 1 })).toEqual([]);
  });
});

describe('unsupportedLimits()', () => {
  it('names what no hierarchy has a controller for', () => {
    expect(unsupportedLimits([V1_MEMORY, V1_CPU], ALL)).toEqual(['pids']);
    expect(unsupportedLimits([], ALL)).toEqual(['memory', 'cpus', 'pids']);
    expect(unsupportedLimits([], { tmp: 1 })).toEqual([]);
    expect(unsupportedLimits([V2], ALL)).toEqual([]);
  });
});
