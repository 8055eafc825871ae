import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { printed } from './bed.ts';
import { microvmBed, TIMEOUT, TOOLS } from './microvm-bed.ts';

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

const MIB = 1 << 20;

describeWith(TOOLS, 'limits of a microvm sandbox', () => {
  let bed: Awaited<ReturnType<typeof microvmBed>>;
  beforeAll(async () => (bed = await microvmBed({ poolSize: 0 })));
  afterAll(() => bed[Symbol.asyncDispose]());

  it('tells of a program that used up its memory, within its limit and without one', async () => {
    for (const resources of [{ memory: 32 * MIB }, {}]) {
      const { exit, sandbox } = await bed.run('exec dd if=/dev/zero of=/dev/null bs=300M count=1', { resources });
      expect(exit).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: true });
      await sandbox.remove();
    }
  });

  it('lets one process run where one is allowed, and not two', async () => {
    const { stdout, stderr, sandbox } = await bed.run('echo one; (echo two); echo three', { resources: { pids: 1 } });
    expect(stdout).toBe('one\n');
    expect(stderr).toContain("can't fork");
    await sandbox.remove();
  });

  it('gives a share of a processor, and tells what is used', async () => {
    const sandbox = await bed.start('echo ready; while :; do :; done', { resources: { cpus: 0.2 } });
    await printed(sandbox, 'ready');
    const began = performance.now();
    const before = (await sandbox.usage()).cpuMicros ?? Number.NaN;
    await waitFor('two seconds to pass', () => performance.now() - began > 2000);
    const usage = await sandbox.usage();
    const share = ((usage.cpuMicros ?? Number.NaN) - before) / 1000 / (performance.now() - began);
    expect(share).toBeLessThan(0.35);
    expect(share).toBeGreaterThan(0.02);
    expect(usage.memory).toBeGreaterThan(0);
    expect(usage.pids).toBeGreaterThanOrEqual(1);
    expect(usage.machineMemory).toBeGreaterThan(50 * MIB);
    await sandbox.stop({ graceMs: 0 });
    expect(await sandbox.usage()).toEqual({});
    await sandbox.remove();
  });

  it('bounds /tmp, on a disk where it is larger than the memory', async () => {
    const fill = 'dd if=/dev/zero of=/tmp/file bs=1M count=400 2>/dev/null; stat -c %s /tmp/file';
    const { stdout, sandbox } = await bed.run(fill, { resources: { tmp: 8 * MIB } });
    expect(Number(stdout)).toBeLessThanOrEqual(8 * MIB);
    expect(Number(stdout)).toBeGreaterThan(7 * MIB);
    await sandbox.remove();
    const large = await bed.run(fill.replace('400', '120'), { resources: { tmp: 96 * MIB, memory: 64 * MIB } });
    expect(large.exit).toEqual({ code: 0, outOfMemory: false });
    expect(Number(large.stdout)).toBeLessThanOrEqual(96 * MIB);
    expect(Number(large.stdout)).toBeGreaterThan(70 * MIB);
    await large.sandbox.remove();
  });

  it('makes a larger machine for a program that wants more than the pool has', async () => {
    const script = `awk '/MemTotal/ { print $2 }' /proc/meminfo; grep -c ^processor /proc/cpuinfo`;
    const { stdout, sandbox } = await bed.run(script, { resources: { memory: 512 * MIB, cpus: 1.5 } });
    const [memory, processors] = stdout.split('\n').map(Number);
    expect(memory).toBeGreaterThan(512 * 1024);
    expect(processors).toBe(2);
    await sandbox.remove();
  });
});
