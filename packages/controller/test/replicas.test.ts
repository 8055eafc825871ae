import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { type Bed, QUICK_POLICY, startBed } from './bed.ts';

vi.setConfig({ testTimeout: 40_000 });

const WEB = { name: 'web', type: 'memory', replicas: 3, policy: QUICK_POLICY };
const running = async (bed: Bed) => (await bed.replicas()).length;
const perNode = (bed: Bed) => bed.nodes.map(({ machine }) => machine.workloads.size);

describeWith(['nats-server'], 'replicas', () => {
  it('are started on as many nodes as there are, and bear the name of their deployment and revision', async () => {
    await using bed = await startBed(3);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    const status = await bed.until('three replicas', ({ phase }) => phase === 'complete');
    expect(status).toMatchObject({ wanted: 3, revision: 1, revisions: [{ revision: 1, wanted: 3, running: 3 }] });
    expect(perNode(bed)).toEqual([1, 1, 1]);
    const [replica] = await bed.replicas();
    expect(replica?.tags).toMatchObject({ 'nex-deployment': 'web', 'nex-revision': '1' });
  });

  it('are three again within 15 s when the node dies that has one and the controller, and the surplus is stopped when it is back', async () => {
    await using bed = await startBed(3);
    const controllers = [];
    for (const { id } of bed.nodes) controllers.push(await bed.addController({ id, timings: {} }));
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('three replicas', ({ phase }) => phase === 'complete');
    const victim = controllers.findIndex(({ controller }) => controller.leading);
    const node = bed.nodes[victim];
    const killed = performance.now();
    await Promise.all([node?.kill(), controllers[victim]?.nc.close()]);
    await waitFor('three replicas', async () => (await running(bed)) === 3, { timeout: 15_000 });
    expect(performance.now() - killed).toBeLessThan(15_000);
    await node?.restart();
    // The one that came back may stay, the second one on its node goes.
    await waitFor('one on each node', () => perNode(bed).join() === '1,1,1', { timeout: 15_000 });
    await bed.until('quiet', ({ phase, replicas }) => phase === 'complete' && replicas.length === 3);
  });

  it('are scaled up and down, and the fullest node gives up first', async () => {
    await using bed = await startBed(2);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('three replicas', ({ phase }) => phase === 'complete');
    expect(perNode(bed).sort((a, b) => a - b)).toEqual([1, 2]);
    await bed.deployments.scale('web', 2);
    await bed.until('two replicas', ({ phase, wanted }) => phase === 'complete' && wanted === 2);
    expect(perNode(bed)).toEqual([1, 1]);
    await bed.deployments.scale('web', 6);
    await bed.until('six replicas', ({ phase, wanted }) => phase === 'complete' && wanted === 6);
    expect(perNode(bed)).toEqual([3, 3]);
  });

  it('are replaced ever more slowly when they end again and again, and the status says so', async () => {
    await using bed = await startBed(1);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, replicas: 1, runRequest: { version: 'a', dieAfterMs: 100 } });
    const status = await bed.until('a crash loop', ({ phase }) => phase === 'degraded');
    expect(status.failures).toBeGreaterThanOrEqual(3);
    expect(status.error).toMatch(/replica \S+ of revision 1 .*exit code 1/);
    // Waits of 1 and 2 s lie between the first three.
    expect(bed.nodes[0]?.machine.started.length).toBeLessThanOrEqual(4);
  });

  it('are none where nobody can run them: the status says why, and they come when a node does', async () => {
    await using bed = await startBed(0);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, replicas: 1, runRequest: { version: 'a' } });
    await bed.until('the reason', ({ error = '' }) => error.includes('no node'));
    await bed.addNode();
    await bed.until('a replica', ({ revisions }) => revisions[0]?.running === 1);
  });

  it('are stopped with their deployment, which is forgotten then; its name can be used again', async () => {
    await using bed = await startBed(1);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('three replicas', ({ phase }) => phase === 'complete');
    await bed.deployments.remove('web');
    await waitFor('the end', async () => (await bed.deployments.get('web')) === undefined, { timeout: 10_000 });
    expect(bed.versions()).toEqual([]);
    expect(await bed.deployments.list()).toEqual([]);
    await expect(bed.deployments.scale('web', 1)).rejects.toMatchObject({ code: 'DEPLOYMENT_NOT_FOUND' });
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'b' } });
    await bed.until('three others', ({ phase }) => phase === 'complete');
    expect(bed.versions()).toEqual(['b', 'b', 'b']);
  });

  it('leave a node that ends before it does', async () => {
    await using bed = await startBed(3);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, replicas: 2, runRequest: { version: 'a' } });
    await bed.until('two replicas', ({ phase }) => phase === 'complete');
    const leaving = bed.nodes.find(({ machine }) => machine.workloads.size === 1);
    await bed.client.lameduck(leaving?.id ?? '', { delay: 60_000 });
    await waitFor('the move', () => leaving?.machine.workloads.size === 0 && Math.max(...perNode(bed)) === 1);
    expect(await running(bed)).toBe(2);
  });
});
