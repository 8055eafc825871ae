// Nexlets across the languages: one of Go's SDK under a node of ours, the example of ours under a node of Go's.
import { readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NexClient, readLogs, type WorkloadSummary } from '@nex-nix/protocol';
import { connectNats } from '@nex-nix/nats-context';
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
import { startNex } from '../e2e/nex.ts';

const TIMER = join(import.meta.dirname, '../../examples/nexlet/src/main.ts');

describeWith(['nats-server', 'crun', 'nex-go', 'nexlet-go-local'], 'Nexlets', () => {
  const stack = new AsyncDisposableStack();
  let folder: string;
  let url: string;
  let nex: NexClient;
  let env: Record<string, string>;

  beforeAll(async () => {
    folder = stack.use(await tempDir('nex-interop-')).path;
    url = stack.use(await startNatsServer()).url;
    env = { HOME: folder, XDG_CONFIG_HOME: join(folder, 'config'), NO_COLOR: '1' };
    const nc = await connectNats({ servers: url });
    stack.defer(() => nc.close());
    nex = new NexClient(nc, { namespace: 'system' });
  });
  afterAll(() => stack.disposeAsync());

  const go = async (...args: string[]) => {
    await using process = startProcess(findTool('nex-go') ?? '', ['-s', url, ...args], { cwd: folder, env });
    await process.exited;
    return process.stdout();
  };
  const configOf = async (name: string, agents: object[]): Promise<string> => {
    const file = join(folder, `${name}.json`);
    await writeFile(file, JSON.stringify({ agents }));
    return file;
  };
  const nodeOf = (name: string) =>
    waitFor(`node ${name}`, async () => (await nex.pingNodes({ filter: { 'nex.node': name } })).nodes[0]?.node_id, {
      timeout: 20_000,
    });
  const healthy = (node: string, type: string) =>
    waitFor(
      `a healthy nexlet of type ${type}`,
      async () => {
        const { node_agent_summaries: nexlets = [] } = await nex.nodeInfo(node);
        return nexlets.find((nexlet) => nexlet.agent_summary.type === type && nexlet.agent_health === 'healthy');
      },
      { timeout: 20_000 },
    );
  const goStart = async (type: string, request: string): Promise<string> => {
    const started = await go('workload', 'start', '--type', type, '--name', 'across', '--start-request', request);
    expect(started).toMatch(/^Workload across \[\w{22}\] successfully started\n$/);
    return /\[(\w{22})\]/.exec(started)?.[1] ?? '';
  };
  const listed = async (id: string) =>
    (JSON.parse(await go('--json', 'workload', 'ls')) as WorkloadSummary[][]).flat().find((one) => one.id === id);

  it('of Go run under a node of ours as its own programs, and come back after a crash', async () => {
    const uri = findTool('nexlet-go-local') ?? '';
    const config = await configOf('ours', [{ uri }]);
    const args = [
      '-s',
      url,
      '--config',
      config,
      'node',
      'up',
      '--node-name',
      'ours',
      '--state-dir',
      join(folder, 'ours'),
    ];
    await using ours = ended(startNex(args, env), 'SIGTERM');
    const node = await nodeOf('ours');
    const first = await healthy(node, 'inmem');
    const id = await goStart('inmem', '{}');
    expect(await listed(id)).toMatchObject({ name: 'across', workload_type: 'inmem' });
    expect(await go('workload', 'stop', id)).toContain('successfully stopped');
    expect(await listed(id)).toBeUndefined();

    const pid = await waitFor('the process of the nexlet', () => pidOf(uri, ours.process.pid));
    process.kill(pid, 'SIGKILL');
    await waitFor('another process', async () => {
      const now = await pidOf(uri, ours.process.pid);
      return now !== undefined && now !== pid;
    });
    // A node of Go's refuses a nexlet that registers again under its id; ours takes it in.
    const again = await waitFor(
      'the nexlet to start anew',
      async () => {
        const nexlet = await healthy(node, 'inmem');
        return nexlet.agent_summary.start_time !== first.agent_summary.start_time && nexlet;
      },
      { timeout: 20_000 },
    );
    expect(again.agent_id).toBe(first.agent_id);
    await goStart('inmem', '{}');
  });

  it('of ours run under a node of Go, as its own program and as a remote one', async () => {
    const agents = [{ uri: process.execPath, argv: ['--conditions=nexsrc', TIMER] }];
    const args = ['-s', url, '--config', await configOf('gopher', agents), 'node', 'up', '--node-name', 'gopher'];
    const more = ['--resource-directory', folder, '--allow-remote-agent-registration', '--disable-native-start'];
    await using _ = ended(startProcess(findTool('nex-go') ?? '', [...args, ...more], { cwd: folder, env }), 'SIGINT');
    const node = await nodeOf('gopher');
    await healthy(node, 'timer');
    await ticks();

    const remote = startProcess(process.execPath, ['--conditions=nexsrc', TIMER], { env: { ...env, NATS_URL: url } });
    await using __ = ended(remote, 'SIGTERM');
    await waitFor('two nexlets', async () => (await nex.nodeInfo(node)).node_agent_summaries?.length === 2, {
      timeout: 20_000,
    });
    await ticks();
  });

  async function ticks(): Promise<void> {
    const id = await goStart('timer', '{"text":"tick","every":50}');
    expect(await listed(id)).toMatchObject({ name: 'across', workload_state: 'running', workload_type: 'timer' });
    const nc = await connectNats({ servers: url });
    await using lines = await readLogs(nc, { namespace: 'system', workloadId: id, follow: true });
    for await (const { data } of lines) {
      expect(Buffer.from(data).toString()).toBe('tick');
      break;
    }
    await nc.close();
    expect(await go('workload', 'stop', id)).toContain('successfully stopped');
    expect(await listed(id)).toBeUndefined();
  }
});

/** Ends a process and waits for its end when disposed. */
function ended(running: RunningProcess, signal: NodeJS.Signals): AsyncDisposable & { process: RunningProcess } {
  return {
    process: running,
    async [Symbol.asyncDispose]() {
      running.kill(signal);
      await running.exited;
    },
  };
}

/** The child of a process that runs a program. */
async function pidOf(program: string, parent: number): Promise<number | undefined> {
  const children = (await readFile(`/proc/${parent}/task/${parent}/children`, 'utf8')).split(' ').filter(Boolean);
  for (const child of children) {
    // One that ends meanwhile is not the one.
    if ((await readlink(`/proc/${child}/exe`).catch(() => '')) === program) return Number(child);
  }
  return undefined;
}
