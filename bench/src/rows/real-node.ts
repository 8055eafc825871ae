import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { NexClient } from '@nex-nix/protocol';
import { findTool, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { findTraces } from '../../../test/e2e/leftovers.ts';
import { runNex, startNex } from '../../../test/e2e/nex.ts';

/** How many workloads are started or stopped at once. */
const AT_ONCE = 8;
/** Of a tick of the processor times in /proc/<pid>/stat, in milliseconds: USER_HZ is 100 on all Linux machines. */
const TICK = 10;

/** `nex node up` in a process of its own, a server, and a program in the cache that sleeps. */
export interface RealNode extends AsyncDisposable {
  readonly pid: number;
  readonly client: NexClient;
  readonly nc: NatsConnection;
  /** Starts so many services that sleep, and returns their ids when all of them run. */
  startServices(count: number): Promise<string[]>;
  /** Returns when nothing of them is alive. */
  stopServices(ids: readonly string[]): Promise<void>;
  /** Resident bytes of the node's process. */
  rss(): Promise<number>;
  /** Most of them so far. */
  peakRss(): Promise<number>;
  /** Processor time of the node's process so far, in milliseconds. */
  cpu(): Promise<number>;
  /** What waits beside each sandbox: how many processes, their bytes (shared ones divided), their processor time in milliseconds. */
  supervisors(): Promise<{ count: number; pss: number; cpu: number }>;
  /** Whatever is on this machine of workloads: processes, control groups, mounts, folders. */
  leftovers(ids: readonly string[]): Promise<string[]>;
}

export async function startRealNode(): Promise<RealNode> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await tempDir('nex-many-')).path;
  const server = stack.use(await startNatsServer());
  const stateDir = join(folder, 'node');
  const node = stack.use(startNex(['-s', server.url, '--json', 'node', 'up', '--state-dir', stateDir]));
  stack.defer(async () => {
    node.kill('SIGTERM');
    await node.exited;
  });
  const program = join(folder, 'sleep');
  await copyFile(findTool('busybox') ?? '', program);
  await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 30_000 });
  const pushed = await runNex(['-s', server.url, '--json', 'cache', 'push', program]);
  if (pushed.code !== 0) throw new Error(`Nothing can be pushed: ${pushed.stderr}${pushed.stdout}`);
  const [storePath = ''] = (JSON.parse(pushed.stdout) as { storePaths: string[] }).storePaths;
  const nc = await server.connect();
  const client = new NexClient(nc, { namespace: 'default' });
  const traces = async (ids: readonly string[] = []) => {
    const { processes, cgroups, mounts } = await findTraces([stateDir, ...ids]);
    return { processes: processes.filter((line) => Number.parseInt(line, 10) !== node.pid), cgroups, mounts };
  };
  const owned = stack.move();
  return {
    pid: node.pid,
    client,
    nc,
    async startServices(count) {
      const service = { type: 'nix', lifecycle: 'service' as const, runRequest: requestFor(storePath) };
      const indexes = Array.from({ length: count }, (_, index) => index);
      const ids = await mapSome(indexes, async (index) => {
        return (await client.startWorkload({ ...service, name: `sleep-${index}` })).id;
      });
      await waitFor('all of them to run', async () => (await running(client)) === count, { timeout: 60_000 });
      return ids;
    },
    async stopServices(ids) {
      await mapSome(ids, (id) => client.stopWorkload(id));
    },
    rss: async () => (await kilobytes(`/proc/${node.pid}/status`, 'VmRSS')) * 1024,
    peakRss: async () => (await kilobytes(`/proc/${node.pid}/status`, 'VmHWM')) * 1024,
    cpu: () => cpuOf(node.pid),
    async supervisors() {
      const pids = (await traces()).processes.map((line) => Number.parseInt(line, 10));
      const pss = await Promise.all(pids.map((pid) => kilobytes(`/proc/${pid}/smaps_rollup`, 'Pss')));
      const cpu = await Promise.all(pids.map(cpuOf));
      return { count: pids.length, pss: sum(pss) * 1024, cpu: sum(cpu) };
    },
    async leftovers(ids) {
      const { processes, cgroups, mounts } = await traces(ids);
      const folders = await Promise.all(
        ['sandboxes', 'workloads'].map(async (name) =>
          (await readdir(join(stateDir, name))).map((entry) => join(stateDir, name, entry)),
        ),
      );
      return [...processes, ...cgroups, ...mounts, ...folders.flat()];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function requestFor(storePath: string): object {
  return { store_path: storePath, argv: ['1000000'], network: 'none', resources: { memory: '16MiB', pids: 8 } };
}

async function running(client: NexClient): Promise<number> {
  const { workloads } = await client.listWorkloads();
  const [failed] = workloads.filter(({ workload_state: state }) => state === 'error' || state === 'stopped');
  if (failed !== undefined) throw new Error(`A service does not run: ${JSON.stringify(failed)}`);
  return workloads.filter(({ workload_state: state }) => state === 'running').length;
}

/** `action` for each, a few at a time; results in the order of the items. */
async function mapSome<T, R>(items: readonly T[], action: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const left = items.entries();
  const worker = async () => {
    for (const [index, item] of left) results[index] = await action(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

/** Source: proc(5); the name in parentheses may hold anything, what follows it begins with field 3. */
async function cpuOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK;
}

async function kilobytes(file: string, key: string): Promise<number> {
  const [, value] = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(await readFile(file, 'utf8')) ?? [];
  return Number(value);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
