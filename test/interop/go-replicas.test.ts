// Replicas over nodes of Go alone: the controller uses nothing that they do not have.
import { readdir, readFile } from 'node:fs/promises';
import { type Controller, Deployments, runController } from '@nex-nix/controller';
import { connectNats } from '@nex-nix/nats-context';
import { createXKey, NexClient, type WorkloadSummary } from '@nex-nix/protocol';
import {
  describeWith,
  findTool,
  type RunningProcess,
  startNatsServer,
  startProcess,
  tempDir,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';

/** What the replicas do: to sleep for a time that nobody else sleeps for. Go nodes leave it running when they end. */
const SECONDS = `3600.${process.pid}`;
/** Go nodes answer after two seconds while one of their nexlets does not. */
const PATIENCE = { timeout: 40_000 };

describeWith(['nats-server', 'nex-go'], 'Replicas over nodes of Go', () => {
  const stack = new AsyncDisposableStack();
  const nodes: RunningProcess[] = [];
  let nex: NexClient;
  let deployments: Deployments;
  let controller: Controller;

  beforeAll(async () => {
    const folder = stack.use(await tempDir('nex-interop-')).path;
    const { url } = stack.use(await startNatsServer());
    stack.defer(endSleepers);
    for (const name of ['one', 'two', 'three']) {
      const args = ['-s', url, 'node', 'up', '--node-name', name, '--resource-directory', folder];
      nodes.push(stack.use(startProcess(findTool('nex-go') ?? '', args, { cwd: folder, env: { HOME: folder } })));
    }
    const nc = await connectNats({ servers: url });
    stack.defer(() => nc.close());
    nex = new NexClient(nc, { namespace: 'default' });
    const system = new NexClient(nc);
    await waitFor(
      'three nodes that bid',
      async () => {
        const { bids } = await system.auction({ type: 'native', expected: 3, timeout: 1_000 });
        return bids.length === 3;
      },
      PATIENCE,
    );
    deployments = new Deployments(nc, { namespace: 'default' });
    controller = stack.use(runController(nc, { id: 'c1', xkey: createXKey() }));
  });
  afterAll(() => stack.disposeAsync());

  const running = async (count: number): Promise<WorkloadSummary[]> =>
    waitFor(
      `${count} replicas`,
      async () => {
        const { workloads } = await nex.listWorkloads();
        const alive = workloads.filter(({ workload_state: state }) => state === 'running');
        return alive.length === count && alive;
      },
      PATIENCE,
    );

  it('are started, replaced when a node dies, and stopped', async () => {
    expect(controller.id).toBe('c1');
    const runRequest = { uri: 'file:///bin/sleep', argv: [SECONDS] };
    await deployments.apply({ name: 'sleeper', type: 'native', replicas: 3, runRequest });
    const before = await running(3);
    expect(before.map(({ tags }) => tags['nex-deployment'])).toEqual(['sleeper', 'sleeper', 'sleeper']);

    // Go nodes tell nothing by which replicas could be spread: all may be on one. A node stays in any case.
    const parents = await parentsOfSleepers();
    const holders = nodes.filter(({ pid }) => parents.has(pid));
    expect(holders.length).toBeGreaterThan(0);
    const dying = holders.slice(0, 2);
    for (const node of dying) node.kill('SIGKILL');
    await Promise.all(dying.map((node) => node.exited));
    const after = await running(3);
    const kept = after.filter(({ id }) => before.some((old) => old.id === id));
    expect(kept.length).toBeLessThan(3);

    await deployments.remove('sleeper');
    await running(0);
  });
});

/** Of the replicas: the nodes that run them. */
async function parentsOfSleepers(): Promise<Set<number>> {
  const parents = new Set<number>();
  for (const pid of await sleepers()) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    parents.add(Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]));
  }
  return parents;
}

async function endSleepers(): Promise<void> {
  for (const pid of await sleepers()) process.kill(pid, 'SIGKILL');
}

async function sleepers(): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // Processes come and go.
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.split('\0')[1] === SECONDS) found.push(Number(pid));
  }
  return found;
}
