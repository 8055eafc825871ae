import { join } from 'node:path';
import type { AuctionRequest } from '@nex-nix/protocol';
import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Network, openNode, startNetwork, TOOLS, User } from './bed.ts';

const WAIT = 'while :; do sleep 0.05; done';
const ABSENT = '0'.repeat(32);

describeWith(TOOLS, 'what a nix nexlet bids', () => {
  let network: Network;
  let user: User;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());

  const auction = (more: Partial<AuctionRequest> = {}): AuctionRequest => ({
    agent_type: 'nix',
    auction_id: 'a',
    tags: {},
    ...more,
  });

  it('counts what runs, and the bytes that are not in its store', async () => {
    const options = { nc: network.nc, key: network.key, stateDir: join(network.dir.path, 'counts') };
    await using node = await openNode(options);
    const { bid } = node.nexlet.definition;
    const hash = network.shell.slice('/nix/store/'.length).slice(0, 32);
    const closure = { [hash]: 1_000, [ABSENT]: 20, 'not a hash': 7, [`1${ABSENT.slice(1)}`]: 'much' };
    const question = auction({ workload: { namespace: 'default', name: 'job' }, needs: { closure } });
    expect(await bid?.(question)).toEqual({ missing_bytes: 1_020, siblings: 0, workloads: 0 });
    await user.state(await user.start(WAIT), 'running');
    await user.state(await user.start(WAIT), 'running');
    const done = await user.start('exit 0', {}, 'job');
    await user.state(done, 'stopped');
    expect(await bid?.(question)).toEqual({ missing_bytes: 20, siblings: 2, workloads: 2 });
    expect(await bid?.(auction())).toEqual({ workloads: 2 });
    expect(await bid?.({ ...question, workload: { namespace: 'other', name: 'job' } })).toMatchObject({ siblings: 0 });
  });

  it('does not bid for what does not fit beside the rest, and does not start it either', async () => {
    const capacity = { memory: 256 * 2 ** 20 };
    const stateDir = join(network.dir.path, 'full');
    await using node = await openNode({ nc: network.nc, key: network.key, stateDir, capacity });
    const id = await user.start(WAIT, { resources: { memory: '200MiB' } });
    const { bid } = node.nexlet.definition;
    expect(await bid?.(auction({ needs: { memory: 100 * 2 ** 20 } }))).toMatchObject({
      refusal: 'has 56 MiB of memory left for workloads, not 100 MiB',
    });
    await expect(user.start(WAIT, { resources: { memory: '100MiB' } })).rejects.toThrow(
      'Cannot start the workload: the node has 56 MiB of memory left for workloads, not 100 MiB',
    );
    await user.client.stopWorkload(id);
    expect(await bid?.(auction({ needs: { memory: 100 * 2 ** 20 } }))).not.toHaveProperty('refusal');
  });

  it('does not bid for a port that a workload has, and does not start a second one with it', async () => {
    const stateDir = join(network.dir.path, 'ports');
    await using node = await openNode({ nc: network.nc, key: network.key, stateDir });
    const id = await user.start(WAIT, { expose_ports: [8080] });
    const { bid } = node.nexlet.definition;
    const workload = { namespace: 'default', name: 'job' };
    const refusal = 'has no port 8080 left: it is taken by workload "job"';
    expect(await bid?.(auction({ workload, needs: { ports: [8081, 8080] } }))).toMatchObject({ refusal });
    expect(await bid?.(auction({ workload, needs: { ports: [8081, 'x', null] } }))).not.toHaveProperty('refusal');
    await expect(user.start(WAIT, { expose_ports: [8080] })).rejects.toThrow(`the node ${refusal}`);
    await user.client.stopWorkload(id);
    expect(await bid?.(auction({ workload, needs: { ports: [8080] } }))).not.toHaveProperty('refusal');
  });

  it('does not bid for a kind of sandbox that its node has not, and does not start one either', async () => {
    const stateDir = join(network.dir.path, 'kinds');
    await using node = await openNode({ nc: network.nc, key: network.key, stateDir });
    const { bid } = node.nexlet.definition;
    const refusal = 'has no sandboxes of the kind "microvm", but oci';
    expect(await bid?.(auction({ needs: { sandbox: 'microvm' } }))).toMatchObject({ refusal });
    expect(await bid?.(auction({ needs: { sandbox: 'oci' } }))).not.toHaveProperty('refusal');
    await expect(user.start(WAIT, { sandbox: 'microvm' })).rejects.toThrow(`the node ${refusal}`);
    const needy = { type: 'nix', name: 'job', lifecycle: 'service', needs: { sandbox: 'microvm' } } as const;
    const runRequest = { store_path: network.shell, sandbox: 'microvm' };
    await expect(user.client.startWorkload({ ...needy, runRequest })).rejects.toThrow(refusal);
    const id = await user.start(WAIT, { sandbox: 'oci' });
    expect(await user.find(id)).toMatchObject({ metadata: { sandbox: 'oci' } });
  });
});
