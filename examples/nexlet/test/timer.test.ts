// The example as users run it: a program that a node starts, and one that finds its node by itself.
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Node, startNode } from '@nex-nix/node';
import { NexClient } from '@nex-nix/protocol';
import { startNatsServer, startProcess, tempDir, type TempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const workload = {
  type: 'timer',
  name: 'tick',
  lifecycle: 'service' as const,
  runRequest: { text: 'tick', every: 20 },
};

let server: TestNatsServer;
let dir: TempDir;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  dir = await tempDir();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

/** Starts the workload wherever it may run, and waits for three of its lines. */
async function ticks(node: Node, client: NexClient): Promise<void> {
  const nc = await server.connect();
  const lines: string[] = [];
  nc.subscribe('$NEX.FEED.default.logs.*.stdout', { callback: (_error, msg) => void lines.push(msg.string()) });
  await nc.flush();
  const { id, nodeId } = await client.startWorkload(workload);
  expect(nodeId).toBe(node.id);
  await waitFor('three lines', () => lines.length >= 3);
  expect(new Set(lines)).toEqual(new Set(['tick']));
  const { workloads } = await client.listWorkloads();
  expect(workloads).toMatchObject([{ id, name: 'tick', workload_state: 'running', metadata: { node_id: nodeId } }]);
  expect(await client.stopWorkload(id)).toMatchObject({ stopped: true });
  expect((await client.listWorkloads()).workloads).toEqual([]);
}

const node = async (name: string, options: object) =>
  startNode(await server.connect(), {
    name,
    nexus: 'nexus',
    stateDir: join(dir.path, name),
    version: '0.1.0',
    ...options,
  });
const client = async () => new NexClient(await server.connect(), { namespace: 'default' });

async function healthyNexlet({ id }: Node): Promise<void> {
  const system = new NexClient(await server.connect());
  await waitFor('a healthy nexlet', async () => {
    const { node_agent_summaries: nexlets } = await system.nodeInfo(id);
    return nexlets?.some(({ agent_health: health }) => health === 'healthy');
  });
}

describe('the timer nexlet', () => {
  it('is what the README of the SDK shows, in 40 lines', async () => {
    const source = await readFile(MAIN, 'utf8');
    expect(source.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
    const readme = join(import.meta.dirname, '../../../packages/nexlet/README.md');
    expect(await readFile(readme, 'utf8')).toContain(source);
  });

  it('runs as a process of a node, and ends with it', async () => {
    // Nodes run programs; this one is run from its source.
    const uri = join(dir.path, 'timer');
    await writeFile(uri, `#!/bin/sh\necho $$ > "$0.pid"\nexec '${process.execPath}' --conditions=nexsrc '${MAIN}'\n`);
    await chmod(uri, 0o755);
    await using local = await node('local', { localNexlets: [{ uri }] });
    await ticks(local, await client());
    await local[Symbol.asyncDispose]();
    const left = startProcess('/bin/sh', ['-c', `kill -0 $(cat ${uri}.pid)`]);
    expect((await left.exited).code).not.toBe(0);
  });

  it('finds a node that takes it, and ends well on SIGTERM', async () => {
    await using remote = await node('remote', { allowRemoteNexlets: true });
    const env = { NATS_URL: server.url };
    await using nexlet = startProcess(process.execPath, ['--conditions=nexsrc', MAIN], { env });
    await healthyNexlet(remote);
    await ticks(remote, await client());
    nexlet.kill('SIGTERM');
    expect((await nexlet.exited).code, nexlet.output()).toBe(0);
  });

  it('goes on printing while its node is restarted, which takes it and its workload back', async () => {
    const options = { allowRemoteNexlets: true, heartbeatMs: 100 };
    const first = await node('restarted', options);
    await using running = new AsyncDisposableStack();
    running.use(startProcess(process.execPath, ['--conditions=nexsrc', MAIN], { env: { NATS_URL: server.url } }));
    await healthyNexlet(first);
    const asking = await client();
    const { id } = await asking.startWorkload(workload);
    await first[Symbol.asyncDispose]();
    const second = running.use(await node('restarted', options));
    expect(second.id).toBe(first.id);
    await healthyNexlet(second);
    expect((await asking.listWorkloads()).workloads).toMatchObject([{ id, workload_state: 'running' }]);
    expect(await asking.stopWorkload(id)).toMatchObject({ stopped: true });
  });
});
