import { createXKey } from '@nex-nix/protocol';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { QUICK, QUICK_POLICY, startBed } from './bed.ts';
import { startGoLikeNode } from './go-like-node.ts';

vi.setConfig({ testTimeout: 40_000 });

const WEB = { name: 'web', type: 'native', policy: QUICK_POLICY, runRequest: { uri: 'file:///bin/a' } };

describeWith(['nats-server'], 'over nodes that speak Nex 0.4 and nothing else', () => {
  it('replicas are kept, replaced when a node is silent, and rolled over', async () => {
    await using bed = await startBed(0);
    const nodes = [await startGoLikeNode(bed.nc), await startGoLikeNode(await bed.server.connect())];
    const uris = () =>
      nodes.flatMap(({ workloads }) =>
        [...workloads.values()].map(({ run_request: text }) => JSON.parse(text) as object),
      );
    await bed.addController();
    await bed.deployments.apply({ ...WEB, replicas: 4 });
    await bed.until('four replicas', ({ phase }) => phase === 'complete');
    expect(uris()).toHaveLength(4);

    const [gone] = nodes;
    gone?.silence();
    await waitFor('replacements', () => nodes[1]?.workloads.size === 4);
    await bed.until('four replicas', ({ phase }) => phase === 'complete');
    gone?.workloads.clear();

    await bed.deployments.update('web', { revise: (old) => ({ ...old, runRequest: { uri: 'file:///bin/b' } }) });
    await bed.until('the new version', ({ phase, revision }) => phase === 'complete' && revision === 2);
    const b = { uri: 'file:///bin/b' };
    expect(uris()).toEqual([b, b, b, b]);
  });

  it('a start whose answer got lost is found, and no other one is made in its place', async () => {
    await using bed = await startBed(0);
    const node = await startGoLikeNode(bed.nc);
    node.loseAnswer = true;
    await bed.addController();
    await bed.deployments.apply({ ...WEB, replicas: 2 });
    await waitFor('the first', () => node.workloads.size === 1);
    await bed.until('two replicas', ({ phase }) => phase === 'complete');
    expect(node.workloads.size).toBe(2);
  });
});

describeWith(['nats-server'], 'the environment of a deployment', () => {
  it('reaches the nexlet that bid, and nobody else; a controller that joined can take over', async () => {
    await using bed = await startBed(0);
    const node = await startGoLikeNode(bed.nc);
    const seen: string[] = [];
    const tap = await bed.server.connect();
    tap.subscribe('>', { callback: (_error, msg) => void seen.push(msg.string()) });
    await tap.flush();

    const environment = { TOKEN: 'a-secret-nobody-may-see' };
    await expect(bed.deployments.apply({ ...WEB, replicas: 1, environment })).rejects.toMatchObject({
      code: 'CONTROLLER_NONE',
    });
    const first = await bed.addController({ xkey: createXKey() });
    await waitFor('the controller', () => first.controller.leading);
    const second = await bed.addController({ xkey: createXKey() });
    await bed.deployments.apply({ ...WEB, replicas: 1, environment });
    await bed.until('the replica', ({ phase }) => phase === 'complete');
    expect(node.environments).toEqual([environment]);

    await first.controller[Symbol.asyncDispose]();
    await waitFor('the successor', () => second.controller.leading);
    await bed.deployments.scale('web', 2);
    await bed.until('two replicas', ({ phase, wanted }) => phase === 'complete' && wanted === 2);
    expect(node.environments).toEqual([environment, environment]);

    // Without a new one, an update keeps it.
    await bed.deployments.update('web', { revise: (old) => ({ ...old, runRequest: { uri: 'file:///bin/b' } }) });
    await bed.until('the new version', ({ phase, revision }) => phase === 'complete' && revision === 2);
    expect(node.environments).toHaveLength(4);
    await tap.flush();
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.filter((text) => text.includes(environment.TOKEN))).toEqual([]);
  });

  it('is not left out by a controller that cannot open it: the status says so', async () => {
    await using bed = await startBed(0);
    const node = await startGoLikeNode(bed.nc);
    const first = await bed.addController({ xkey: createXKey(), timings: { ...QUICK, renewMs: 400 } });
    await waitFor('the controller', () => first.controller.leading);
    await bed.deployments.apply({ ...WEB, replicas: 1, environment: { TOKEN: 'x' } });
    await bed.until('the replica', ({ phase }) => phase === 'complete');
    await first.controller[Symbol.asyncDispose]();
    await bed.addController();
    await bed.deployments.scale('web', 2);
    const status = await bed.until('the refusal', ({ phase }) => phase === 'degraded');
    expect(status.error).toMatch(/Cannot open its environment: it is sealed for 1 controllers/);
    expect(node.workloads.size).toBe(1);
  });
});
