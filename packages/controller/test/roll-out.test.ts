import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Deployment, untilSettled } from '../src/index.ts';
import { type Bed, QUICK_POLICY, startBed } from './bed.ts';
import type { MemoryRequest } from './memory-nexlet.ts';

vi.setConfig({ testTimeout: 40_000 });

const settled = (bed: Bed, deployment: Deployment) =>
  untilSettled(bed.deployments, deployment, { signal: AbortSignal.timeout(20_000) });

/** Has version a running in two replicas. */
async function startRunning(bed: Bed, name: string): Promise<void> {
  const request = { name, type: 'memory', replicas: 2, policy: QUICK_POLICY, runRequest: { version: 'a' } };
  expect(await settled(bed, await bed.deployments.apply(request))).toMatchObject({ phase: 'complete' });
}

const update = (bed: Bed, name: string, request: MemoryRequest) =>
  bed.deployments.update(name, { revise: (old) => ({ ...old, runRequest: request }) });

/** Has another version rolled out, and watches how many replicas there are meanwhile. */
async function rollOut(bed: Bed, name: string, request: MemoryRequest) {
  const counts = { least: Infinity, most: 0 };
  const watch = setInterval(() => {
    const count = bed.versions(name).length;
    counts.least = Math.min(counts.least, count);
    counts.most = Math.max(counts.most, count);
  }, 5);
  try {
    return { status: await settled(bed, await update(bed, name, request)), counts };
  } finally {
    clearInterval(watch);
  }
}

describeWith(['nats-server'], 'a roll-out', () => {
  let bed: Bed;
  beforeAll(async () => {
    bed = await startBed(2);
    await bed.addController();
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  it('replaces one replica after the other, never has fewer than wanted, and can be taken back', async () => {
    await startRunning(bed, 'good');
    const { status, counts } = await rollOut(bed, 'good', { version: 'b' });
    expect(status).toMatchObject({ phase: 'complete', revision: 2 });
    expect(bed.versions('good')).toEqual(['b', 'b']);
    expect(counts).toEqual({ least: 2, most: 3 });

    const back = await settled(bed, await bed.deployments.rollback('good'));
    expect(back).toMatchObject({ phase: 'complete', revision: 1 });
    expect(bed.versions('good')).toEqual(['a', 'a']);
    const again = await settled(bed, await bed.deployments.rollback('good', { to: 2 }));
    expect(again).toMatchObject({ phase: 'complete', revision: 2 });
    await expect(bed.deployments.rollback('good', { to: 9 })).rejects.toMatchObject({
      code: 'DEPLOYMENT_REVISION_NOT_FOUND',
    });
  });

  it.each<[string, MemoryRequest, RegExp]>([
    ['is refused', { version: 'bad', refuse: true }, /version bad is refused/],
    ['dies before it is stable', { version: 'bad', dieAfterMs: 150 }, /replica \S+ of revision 2 .*exit code 1/],
    ['does not come up in time', { version: 'bad', hang: true }, /did not run within 2 s/],
    ['does not fit the schema', { version: 7 as unknown as string }, /"version" must be string/],
  ])('of a version that %s stops there and goes back, with the reason', async (how, request, reason) => {
    await startRunning(bed, how);
    const { status, counts } = await rollOut(bed, how, request);
    expect(status).toMatchObject({
      phase: 'rolled-back',
      revision: 1,
      failed: { revision: 2, reason: expect.stringMatching(reason) },
    });
    await waitFor('the old ones alone', () => bed.versions(how).join() === 'a,a');
    // No old replica was given up for it.
    expect(counts.least).toBe(2);
  });

  it('that fails half way brings back the replicas that it had replaced, and keeps them', async () => {
    await startRunning(bed, 'half');
    const deployment = await update(bed, 'half', { version: 'b' });
    await waitFor('both versions', () => bed.versions('half').join() === 'a,b,b');
    forget(bed, 'half', 'b');
    expect(await settled(bed, deployment)).toMatchObject({ phase: 'rolled-back', failed: { revision: 2 } });
    await waitFor('the old ones', () => bed.versions('half').join() === 'a,a');
    forget(bed, 'half', 'a');
    await waitFor('replacements', () => bed.versions('half').join() === 'a,a');
    expect(await bed.status('half')).toMatchObject({ phase: 'rolled-back' });
  });

  it('is what applying another content is, and applying the same is none', async () => {
    const request = { name: 'again', type: 'memory', replicas: 1, policy: QUICK_POLICY };
    await settled(bed, await bed.deployments.apply({ ...request, runRequest: { version: 'a' } }));
    const same = await bed.deployments.apply({ ...request, runRequest: { version: 'a' } });
    expect(same).toMatchObject({ revision: 1, attempt: 1 });
    const other = await bed.deployments.apply({ ...request, replicas: 2, runRequest: { version: 'b' } });
    expect(other).toMatchObject({ revision: 2, attempt: 2 });
    await settled(bed, other);
    expect(bed.versions('again')).toEqual(['b', 'b']);
  });

  it('goes on when its controller is gone in the middle of it', async () => {
    await using own = await startBed(2);
    const first = await own.addController();
    await startRunning(own, 'web');
    await own.addController();
    const deployment = await update(own, 'web', { version: 'b' });
    await waitFor('a new one', () => own.versions().includes('b'));
    // It is cut off, and does not give its lease back.
    await first.nc.close();
    expect(await settled(own, deployment)).toMatchObject({ phase: 'complete', revision: 2 });
    expect(own.versions()).toEqual(['b', 'b']);
    expect(own.nodes.flatMap(({ machine }) => machine.started).sort()).toEqual(['a', 'a', 'b', 'b']);
  });
});

/** The machines lose the workloads of a version. */
function forget(bed: Bed, name: string, version: string): void {
  for (const { machine } of bed.nodes) {
    for (const [id, { context, request }] of machine.workloads) {
      if (context.request.name === name && request.version === version) machine.workloads.delete(id);
    }
  }
}
