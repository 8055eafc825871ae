// Replicas as users have them: three nodes as processes of their own, real sandboxes, one node killed.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient, type WorkloadSummary } from '@nex-nix/protocol';
import {
  describeWith,
  findTool,
  type RunningProcess,
  startNatsServer,
  tempDir,
  type TestNatsServer,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findTraces } from './leftovers.ts';
import { runNex, startNex } from './nex.ts';

const NAMES = ['one', 'two', 'three'];
/** What is promised, in milliseconds. */
const BACK_WITHIN = 15_000;

describeWith(['nats-server', 'crun', 'busybox'], 'three nodes', () => {
  const stack = new AsyncDisposableStack();
  const nodes = new Map<string, RunningProcess>();
  let folder: string;
  let server: TestNatsServer;
  let client: NexClient;

  const nex = (...args: string[]) => runNex(['-s', server.url, ...args]);
  const startNode = async (name: string): Promise<void> => {
    const options = ['--node-name', name, '--state-dir', join(folder, name), '--cache-key-file', join(folder, 'key')];
    const node = stack.use(startNex(['-s', server.url, '--json', 'node', 'up', ...options]));
    nodes.set(name, node);
    await waitFor(`node ${name}`, () => node.output().includes('nex node ready'), { timeout: 40_000 });
  };
  /** What runs of the workload, on nodes that answer. */
  const running = async (): Promise<WorkloadSummary[]> => {
    const { workloads } = await client.listWorkloads({ filter: ['nap'] });
    return workloads.filter(({ workload_state: state }) => state === 'running');
  };
  const nodeIds = async (): Promise<Map<string, string>> => {
    const { nodes: all } = await client.pingNodes();
    return new Map(all.map(({ tags, node_id: id }) => [tags['nex.node'] ?? '', id]));
  };

  beforeAll(async () => {
    folder = stack.use(await tempDir('nex-replicas-')).path;
    server = stack.use(await startNatsServer());
    const nc = await connectNats({ servers: server.url });
    stack.defer(() => nc.close());
    client = new NexClient(nc);
    expect((await nex('cache', 'keygen', '--name', 'replicas', '--out', join(folder, 'key'))).code).toBe(0);
    await Promise.all(NAMES.map(startNode));
  }, 90_000);
  afterAll(async () => {
    await stack.disposeAsync();
    expect(await findTraces([folder])).toMatchObject({ processes: [], mounts: [], cgroups: [] });
  });

  it('have a replica each, are back to three within 15 s when one is killed, and to one each when it is back', async () => {
    const sleep = join(folder, 'sleep');
    await copyFile(findTool('busybox') ?? '', sleep);
    const pushed = await nex('--json', 'cache', 'push', sleep);
    const { storePaths } = JSON.parse(pushed.stdout) as { storePaths: string[] };
    const request = ['--start-request', '{"argv":["1000"],"stop":{"signal":"SIGKILL"}}'];
    const replicas = ['--name', 'nap', '--replicas', '3', '--spread'];
    const started = await nex('workload', 'start', storePaths[0] ?? '', ...request, ...replicas);
    expect(started, started.stderr).toMatchObject({ code: 0 });
    const ids = await nodeIds();
    const before = await running();
    expect(new Set(before.map(({ metadata }) => metadata?.['node_id']))).toEqual(new Set(ids.values()));

    const dead = ids.get('two');
    const node = nodes.get('two');
    node?.kill('SIGKILL');
    await node?.exited;
    const since = performance.now();
    const alive = await waitFor(
      'three replicas on two nodes',
      async () => {
        const now = await running();
        return now.length === 3 && now.every(({ metadata }) => metadata?.['node_id'] !== dead) && now;
      },
      { timeout: 40_000 },
    );
    expect(performance.now() - since).toBeLessThan(BACK_WITHIN);
    const kept = before.filter(({ metadata }) => metadata?.['node_id'] !== dead).map(({ id }) => id);
    expect(alive.map(({ id }) => id)).toEqual(expect.arrayContaining(kept));

    // It finds the replica that outlived it: one too many.
    await startNode('two');
    await waitFor(
      'three replicas on three nodes',
      async () => {
        const now = await running();
        return now.length === 3 && new Set(now.map(({ metadata }) => metadata?.['node_id'])).size === 3;
      },
      { timeout: 40_000 },
    );
  }, 120_000);

  it('go back to what ran when a new version ends at once', async () => {
    const before = (await running()).map(({ id }) => id);
    const bad = await nex('workload', 'update', 'nap', '--start-request', '{"argv":["no number"]}');
    expect(bad.code).toBe(1);
    expect(bad.stderr).toMatch(/revision 2 was rolled back to 1: .*exit code 1/);
    const after = (await running()).map(({ id }) => id);
    expect(new Set(after)).toEqual(new Set(before));
    expect(await nex('workload', 'remove', 'nap')).toMatchObject({ code: 0 });
    expect(await running()).toEqual([]);
    for (const node of nodes.values()) node.kill('SIGTERM');
    for (const node of nodes.values()) expect(await node.exited).toMatchObject({ code: 0 });
  }, 120_000);
});
