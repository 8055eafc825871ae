import { describeWith, findTool } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { knownTscKhz, machineTscKhz, measureTscKhz } from './tsc-frequency.ts';

const CPUINFO = 'processor\t: 0\ncpu MHz\t\t: 2499.984\nflags\t\t: fpu tsc constant_tsc rdtscp\n';

describe('knownTscKhz()', () => {
  it('takes the figure of a processor that always runs at the same frequency', () => {
    expect(knownTscKhz(CPUINFO, { scales: false })).toBe(2_499_984);
  });

  it.each([
    ['its frequency is changed', CPUINFO, true],
    ['the kernel shows what it runs at now', CPUINFO.replace('constant_tsc', 'constant_tsc aperfmperf'), false],
    ['its counter may change with it', CPUINFO.replace('constant_tsc ', ''), false],
    ['there is no figure', 'processor\t: 0\nflags\t\t: constant_tsc\n', false],
  ])('knows nothing where %s', (_where, cpuinfo, scales) => {
    expect(knownTscKhz(cpuinfo, { scales })).toBeUndefined();
  });
});

describeWith(['qemu-system-x86_64'], 'measureTscKhz()', () => {
  it('measures what the kernel has found', async () => {
    const measured = await measureTscKhz(findTool('qemu-system-x86_64') ?? '');
    expect(measured).toBeGreaterThan(100_000);
    const known = machineTscKhz();
    // Far from what makes a guest hang, on a machine that is busy.
    if (known !== undefined) expect(Math.abs(measured - known) / known).toBeLessThan(0.01);
  });

  it('says so where there is no QEMU', async () => {
    await expect(measureTscKhz('/bin/false')).rejects.toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
  });
});
