import { readFile } from 'node:fs/promises';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient, type WorkloadSummary } from '@nex-nix/protocol';
import { describeWith, type RunningProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runNex } from '../e2e/nex.ts';
import { addProgram, push } from '../e2e/sabotage.ts';
import { Bed } from './bed.ts';

/** A service that ends `seconds` after it was told to. */
function service(storePath: string, seconds: number): string {
  const script = `trap 'sleep ${seconds}; exit 0' TERM; sleep 3600 & wait`;
  return JSON.stringify({ store_path: storePath, program: 'bin/sh', argv: ['-c', script] });
}

// The command of Go Nex, as `nex-go`: `nex` is ours.
describeWith(['nats-server', 'crun', 'nix-build', 'busybox', 'nex-go'], 'Go nex', () => {
  let bed: Bed;
  let ours: RunningProcess;
  let nex: NexClient;
  let storePath: string;

  beforeAll(async () => {
    bed = await Bed.open();
    ours = await bed.startNode('ours');
    const nc = await connectNats({ context: 'ExpAdmin', configDir: bed.services.configDir });
    bed.defer(() => nc.close());
    nex = new NexClient(nc, { namespace: 'system' });
    storePath = await addProgram(bed.folder, 'interop-1.0', ['sh', 'sleep']);
    await push(nc, storePath);
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const go = (...args: string[]) => bed.run('nex-go', '--nats.context', 'ExpAdmin', ...args);
  const goJson = <T>(...args: string[]) => bed.json<T>('nex-go', '--nats.context', 'ExpAdmin', '--json', ...args);
  const oursJson = async <T>(...args: string[]): Promise<T> => {
    const { stdout, stderr, code } = await runNex(['--context', 'ExpAdmin', '--json', ...args], bed.env);
    expect(code, stdout + stderr).toBe(0);
    return JSON.parse(stdout) as T;
  };
  const goStart = async (name: string, request: string): Promise<string> => {
    const { stdout } = await go('workload', 'start', '--type', 'nix', '--name', name, '--start-request', request);
    expect(stdout).toMatch(/^Workload \S+ \[\w{22}\] successfully started\n$/);
    return /\[(\w{22})\]/.exec(stdout)?.[1] ?? '';
  };
  const running = (id: string) =>
    waitFor(`workload ${id} to run`, async () => {
      const { workloads } = await nex.listWorkloads({ filter: [id] });
      return workloads.find((workload) => workload.workload_state === 'running');
    });
  const startGoNode = async (name: string): Promise<string> => {
    const { services, folder } = bed;
    const connection = ['-s', services.url, '--nats.creds-file', services.credsFile('Node')];
    const seed = (await readFile(services.accountSigningKeySeedFile, 'utf8')).trim();
    const issuer = ['--issuer-signing-key', seed, '--issuer-signing-key-root-account', services.accountPublicKey];
    const up = ['node', 'up', '--node-name', name, '--resource-directory', folder];
    const node = bed.start('nex-go', ...connection, ...up, ...issuer);
    bed.defer(async () => {
      node.kill('SIGINT');
      await node.exited;
    });
    const filter = { 'nex.node': name };
    return waitFor('the Go node', async () => (await nex.pingNodes({ filter })).nodes[0]?.node_id);
  };

  it('lists and describes our node', async () => {
    const [node, ...others] = await goJson<{ node_id: string; state: string; agent_count: number }[]>('node', 'ls');
    expect(others).toEqual([]);
    expect(node).toMatchObject({ state: 'running', agent_count: 1 });
    const info = await goJson<{ node_agent_summaries: unknown[] }>('node', 'info', node?.node_id ?? '');
    expect(info).toMatchObject({ node_id: node?.node_id, tags: { 'nex.node': 'ours', 'nex.os': 'linux' } });
    expect(info.node_agent_summaries).toMatchObject([{ agent_health: 'healthy', agent_summary: { type: 'nix' } }]);
    const { stdout } = await go('node', 'info', '--full', node?.node_id ?? '');
    expect(stdout).toMatch(/🟢 \[healthy\] │ \w{22} │ nix \[0\.1\.0\]/);
  });

  it('starts, lists, clones and stops workloads of type nix', async () => {
    const id = await goStart('first', service(storePath, 0));
    await running(id);
    const cloned = await goJson<{ id: string; name: string }>('workload', 'clone', '--stop', id);
    expect(cloned.name).toBe('first');
    await running(cloned.id);
    const [listed, ...others] = await goJson<WorkloadSummary[][]>('workload', 'ls');
    expect(others).toEqual([]);
    expect(listed).toMatchObject([{ id: cloned.id, name: 'first', workload_state: 'running', workload_type: 'nix' }]);
    const stopped = await goJson<object>('workload', 'stop', cloned.id);
    expect(stopped).toEqual({ id: cloned.id, message: '', stopped: true, workload_type: 'nix' });
    expect((await nex.listWorkloads()).workloads).toEqual([]);
  });

  it('is told what is wrong with a start request', async () => {
    const start = ['workload', 'start', '--type', 'nix', '--name', 'bad', '--start-request'];
    const absent = '/nix/store/00000000000000000000000000000000-absent-1.0';
    const [schema, unknown] = await Promise.all([
      go(...start, '{"store_path":5}'),
      go(...start, JSON.stringify({ store_path: absent })),
    ]);
    expect(schema.stdout).toMatch(/error: .*\n.*\/store_path.*got number, want string/);
    expect(unknown.stdout).toContain(`error: Cannot find "${absent}": it is not in the NATS cache`);
  });

  it('and ours share a nexus: each lists both nodes, starts and stops on the other', async () => {
    const goNode = await startGoNode('gopher');
    const nodes = await oursJson<{ tags: Record<string, string> }[]>('node', 'list');
    expect(new Set(nodes.map(({ tags }) => tags['nex.node']))).toEqual(new Set(['gopher', 'ours']));
    // It knows nothing of its nexlet until the first heartbeat.
    await waitFor('the native nexlet', async () => {
      type Info = { node_agent_summaries: { agent_summary: { type: string } }[] };
      const info = await oursJson<Info>('node', 'info', goNode);
      return info.node_agent_summaries.some(({ agent_summary: { type } }) => type === 'native');
    });

    // This Go node sends no events: the answer of its nexlet is all that says that the workload runs.
    await waitFor('the native nexlet to bid', async () => (await nex.auction({ type: 'native', expected: 1 })).bids[0]);
    const request = JSON.stringify({ uri: 'file:///bin/sleep', argv: ['3600'] });
    const start = ['workload', 'start', '--type', 'native', '--name', 'asleep', '--start-request', request];
    const [native, slow] = await Promise.all([
      oursJson<{ id: string }>(...start),
      goStart('slow', service(storePath, 5)),
    ]);
    const workloads = await waitFor('both to run', async () => {
      const listed = (await oursJson<WorkloadSummary[][]>('workload', 'list')).flat();
      return listed.every(({ workload_state: state }) => state === 'running') && listed;
    });
    expect(workloads).toHaveLength(2);
    expect(workloads.find(({ id }) => id === native.id)).toMatchObject({ name: 'asleep', workload_type: 'native' });
    expect(workloads.find(({ id }) => id === slow)).toMatchObject({ name: 'slow', workload_type: 'nix' });

    // The Go node says after two seconds that it does not have it; the Go client waits for two more, then takes that for the answer.
    const [stoppedByGo, stoppedByUs] = await Promise.all([
      goJson<object>('workload', 'stop', slow),
      oursJson<object>('workload', 'stop', native.id),
    ]);
    expect(stoppedByGo).toMatchObject({ id: slow, stopped: true, workload_type: 'nix' });
    expect(stoppedByUs).toMatchObject({ id: native.id, stopped: true, workload_type: 'native' });
  });

  it('puts our node into lame duck mode, after which it ends', async () => {
    const { nodes } = await nex.pingNodes({ filter: { 'nex.node': 'ours' } });
    const reply = await goJson<object>('node', 'lameduck', '--delay', '1s', nodes[0]?.node_id ?? '');
    expect(reply).toMatchObject({ success: true });
    expect(await ours.exited).toMatchObject({ code: 0 });
  });
});
