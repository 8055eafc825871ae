import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import type { SandboxRecord, SandboxSpec } from '@nex-nix/sandbox';
import { expect, it, vi } from 'vitest';
import { output, traces } from './bed.ts';
import { machineOf, machinesOf, microvmBed, MICROVM_STARTER, TIMEOUT, TOOLS, vmmOf } from './microvm-bed.ts';

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

/** Starts sandboxes in another process; killed when disposed. */
async function startElsewhere(bed: Awaited<ReturnType<typeof microvmBed>>, specs: SandboxSpec[], kind = '') {
  const { stateDir, image, templateDir } = bed;
  const args = ['--conditions=nexsrc', MICROVM_STARTER, stateDir, image, templateDir, JSON.stringify(specs), kind];
  await using stack = new AsyncDisposableStack();
  const child = stack.use(startProcess(process.execPath, args));
  let ended = false;
  void child.exited.then(() => (ended = true));
  const line = await waitFor(
    'the sandboxes to run',
    () => {
      if (ended) throw new Error(child.output());
      return child.stdout().endsWith('\n') && child.stdout();
    },
    { timeout: 120_000 },
  );
  stack.move();
  return { child, records: JSON.parse(line) as SandboxRecord[] };
}

describeWith(TOOLS, 'adoption of microvm sandboxes', () => {
  it('goes on with sandboxes whose node was killed while output came: no line lost or doubled', async () => {
    await using bed = await microvmBed({ poolSize: 0 });
    const count = `i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); echo "line $i"; done; echo over >&2`;
    const short = 'echo done; exit 6';
    const { child, records } = await startElsewhere(bed, [
      bed.spec(`${count}; exit 5`),
      bed.spec(short),
      bed.spec('sleep 100'),
    ]);
    await using _child = child;
    const [flowing, ended, killed] = records;
    if (flowing === undefined || ended === undefined || killed === undefined) throw new Error('too few records');
    child.kill('SIGKILL');
    await child.exited;
    process.kill(vmmOf(await machineOf(bed.stateDir, killed.id)), 'SIGKILL');
    const pooled = machinesOf(bed.stateDir).length - 3;
    expect((await bed.runtime.list()).map(({ id }) => id).sort()).toEqual(records.map(({ id }) => id).sort());

    await using next = await bed.open();
    // Those that waited for a workload have gone with their node.
    expect(machinesOf(bed.stateDir)).toHaveLength(3);
    expect(pooled).toBeGreaterThanOrEqual(0);
    const [one, two, three] = await Promise.all(records.map((record) => next.adopt(record)));
    if (one === undefined || two === undefined || three === undefined) throw new Error('not adopted');
    expect(await one.exited).toEqual({ code: 5, outOfMemory: false });
    const { stdout, stderr } = await output(one);
    expect(stdout).toBe(Array.from({ length: 20_000 }, (_, index) => `line ${index + 1}\n`).join(''));
    expect(stderr).toBe('over\n');
    expect(await two.exited).toEqual({ code: 6, outOfMemory: false });
    expect((await output(two)).stdout).toBe('done\n');
    expect(await three.exited).toEqual({ outOfMemory: false, reason: expect.stringContaining('no node') as string });
    for (const sandbox of [one, two, three]) await sandbox.remove();
    expect(machinesOf(bed.stateDir)).toEqual([]);
    expect(traces(bed.path)).toEqual([]);
  });

  it('clears away what a killed node had half done: machines of its pool, warm sandboxes, those never started', async () => {
    await using bed = await microvmBed({ poolSize: 0 });
    const warm = bed.spec('sleep 100');
    const { child } = await startElsewhere(bed, [warm], 'warm');
    await using _child = child;
    // Its pool, too.
    await waitFor('the pool', () => machinesOf(bed.stateDir).length === 2, { timeout: 120_000 });
    const machines = machinesOf(bed.stateDir);
    const [record] = await bed.runtime.list();
    if (record === undefined) throw new Error('no record');
    expect(await bed.runtime.adopt(record)).toBeUndefined();
    await expect(bed.runtime.warm(warm)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN' });
    expect(await bed.runtime.clean({ dryRun: true })).toEqual([]);
    child.kill('SIGKILL');
    await child.exited;
    const created = await bed.runtime.create(bed.spec('true'));
    await created[Symbol.asyncDispose]();
    expect(await bed.runtime.adopt(created.record)).toBeUndefined();
    const found = await bed.runtime.clean({ dryRun: true });
    expect(found.map(({ kind }) => kind)).toEqual(['sandbox', 'sandbox']);
    expect(machinesOf(bed.stateDir)).toHaveLength(2);
    await bed.runtime.clean({ dryRun: false });
    expect(await bed.runtime.list()).toEqual([]);
    expect(machinesOf(bed.stateDir)).toEqual([]);
    for (const machine of machines) expect(traces(machine)).toEqual([]);
  });
});
