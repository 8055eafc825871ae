import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { removeCgroup } from '../src/cgroup/processes.ts';
import { BUSYBOX, output, printed, testBed, TOOLS } from './bed.ts';

const MIB = 1 << 20;
const b = `${BUSYBOX} `;

/** Process ids of everything in a cgroup. */
async function processesBelow(cgroup: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const cgroups = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
    if (cgroups.split('\n').some((line) => line.endsWith(`:${cgroup}`))) found.push(pid);
  }
  return found;
}

describeWith(TOOLS, 'limits of an oci sandbox', () => {
  it('does not speak of memory when a program is killed otherwise', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`, { resources: { memory: 64 * MIB } });
    expect(await sandbox.stop({ signal: 'SIGKILL' })).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
  });

  it('lets one process run where one is allowed, and not two', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`trap '(echo two); echo three' USR1; echo one; while :; do :; done`, {
      resources: { pids: 1 },
    });
    await printed(sandbox, 'one');
    // What comes after a fork that fails is up to the shell: this one ends.
    expect(await sandbox.stop({ signal: 'SIGUSR1' })).toEqual({ code: 2, outOfMemory: false });
    const { stdout, stderr } = await output(sandbox);
    expect(stdout).toBe('one\n');
    expect(stderr).toContain("can't fork");
  });

  it('gives a share of a processor', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start('while :; do :; done', { resources: { cpus: 0.2 } });
    const began = performance.now();
    const before = (await sandbox.usage()).cpuMicros ?? Number.NaN;
    await waitFor('a second to pass', () => performance.now() - began > 1000);
    const share = ((await sandbox.usage()).cpuMicros ?? Number.NaN) - before;
    expect(share / 1000 / (performance.now() - began)).toBeLessThan(0.35);
    expect(share).toBeGreaterThan(0);
  });

  it('tells what is used', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    const { memory, memoryPeak, cpuMicros, pids } = await sandbox.usage();
    expect(memory).toBeGreaterThan(0);
    expect(memoryPeak).toBeGreaterThanOrEqual(memory ?? Infinity);
    expect(cpuMicros).toBeGreaterThan(0);
    expect(pids).toBeGreaterThanOrEqual(1);
  });

  it('puts sandboxes below the cgroup that is asked for, and wants it to exist', async () => {
    const cgroupParent = `/nex-test-${process.pid}`;
    await expect(testBed({ cgroupParent })).rejects.toMatchObject({ code: 'SANDBOX_LIMIT_UNSUPPORTED' });
    const mounts = await readFile('/proc/self/mountinfo', 'utf8');
    const trees = [...mounts.matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm)].map(([, folder = '']) => folder);
    const made = trees.map((folder) => join(folder, cgroupParent));
    try {
      for (const folder of made) await mkdir(folder);
      await using bed = await testBed({ cgroupParent });
      const sandbox = await bed.start(`${b}sleep 100`, { resources: { pids: 8 } });
      const [pid = ''] = await processesBelow(`${cgroupParent}/nex-nix/${sandbox.id}`);
      expect(pid).not.toBe('');
      expect(await sandbox.stop({ graceMs: 0 })).toMatchObject({ code: 137 });
      await sandbox.remove();
    } finally {
      for (const folder of made) await removeCgroup(folder);
    }
  });

  it('says that a limit is too small to start anything', async () => {
    await using bed = await testBed();
    const sandbox = await bed.runtime.create(bed.spec('echo', { resources: { memory: 64 * 1024 } }));
    await expect(sandbox.start()).rejects.toMatchObject({
      code: 'SANDBOX_START_FAILED',
      message: expect.stringContaining('memory limit of 65536 bytes was reached') as string,
    });
  });
});
