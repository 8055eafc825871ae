import { chmod, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '@nex-nix/nexlet';
import { type FeedEvent, followEvents, NexClient } from '@nex-nix/protocol';
import { startNatsServer, startProcess, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalNexletSpec, type Node, type NodeOptions, startNode } from '../src/index.ts';

const PROGRAM = fileURLToPath(new URL('local-nexlet-process.ts', import.meta.url));

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

interface Line {
  level: string;
  message: string;
  fields: Readonly<Record<string, unknown>>;
}

function memoryLogger(lines: Line[]): Logger {
  const write = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ level, message, fields });
  const logger: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => logger,
  };
  return logger;
}

let count = 0;

async function start(
  spec: LocalNexletSpec,
  options: Partial<NodeOptions> = {},
): Promise<{ node: Node; lines: Line[] }> {
  const lines: Line[] = [];
  const name = `local-${++count}`;
  const node = await startNode(await server.connect(), {
    name,
    stateDir: join(dir.path, name),
    version: '0.1.0',
    localNexlets: [spec],
    logger: memoryLogger(lines),
    ...options,
  });
  return { node, lines };
}

const script = (mode: string): LocalNexletSpec => ({
  uri: `file://${process.execPath}`,
  argv: ['--conditions=nexsrc', PROGRAM, mode],
  env: { GREETING: 'hello' },
});

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const pidIn = (lines: readonly Line[]) =>
  lines.findLast(({ message }) => message === 'local nexlet started')?.fields['pid'] as number;

const echo = { type: 'local', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };

describe('a local nexlet', () => {
  it('runs as a process with the environment of the contract, serves, and ends with the node', async () => {
    const { node, lines } = await start(script('well'));
    const nex = new NexClient(await server.connect());
    const { id } = await nex.startWorkload(echo);
    expect((await nex.listWorkloads()).workloads).toMatchObject([{ id, name: 'echo' }]);
    const [text = ''] = lines.map(({ message }) => message).filter((message) => message.startsWith('environment '));
    const environment = JSON.parse(text.slice('environment '.length)) as Record<string, string>;
    expect(environment).toEqual({
      GREETING: 'hello',
      NEX_AGENT_NATS_SERVERS: expect.stringContaining(String(server.port)) as unknown,
      NEX_AGENT_NATS_USER_SEED: '',
      NEX_AGENT_NATS_B64_JWT: '',
      NEX_AGENT_NATS_USER: '',
      NEX_AGENT_NATS_PASSWORD: '',
      NEX_AGENT_NATS_USER_NKEY: '',
      NEX_AGENT_NODE_ID: node.id,
      NEX_AGENT_ASSIGNED_ID: expect.stringMatching(/^\w{22}$/) as unknown,
      NEX_AGENT_NEXUS: 'nexus',
    });
    expect(lines).toContainEqual(expect.objectContaining({ level: 'info', message: text }));
    expect(lines).toContainEqual(expect.objectContaining({ level: 'error', message: 'a complaint' }));
    const pid = pidIn(lines);
    await node[Symbol.asyncDispose]();
    expect(isAlive(pid)).toBe(false);
  });

  it('that is killed comes back under its id, and its end and start are told', async () => {
    const nc = await server.connect();
    const seen: FeedEvent[] = [];
    await using events = followEvents(nc);
    void (async () => {
      for await (const event of events) seen.push(event);
    })();
    await nc.flush();
    const { node, lines } = await start(script('well'));
    await using _ = node;
    const nex = new NexClient(await server.connect());
    const agents = async () => (await nex.nodeInfo(node.id)).node_agent_summaries ?? [];
    const [before] = await agents();
    process.kill(pidIn(lines), 'SIGKILL');
    const started = ({ name }: FeedEvent) => name === 'AGENTSTARTED';
    await waitFor('the nexlet to be back', () => seen.filter(started).length === 2);
    await waitFor('it to be healthy', async () => (await agents())[0]?.agent_health === 'healthy');
    expect((await agents()).map(({ agent_id: id }) => id)).toEqual([before?.agent_id]);
    const told = seen.filter(({ from, name }) => from === node.id && name.startsWith('AGENT'));
    expect(told.map(({ name }) => name)).toEqual(['AGENTSTARTED', 'AGENTSTOPPED', 'AGENTSTARTED']);
    expect(told[1]?.body).toMatchObject({ id: before?.agent_id, name: 'local', reason: 'signal SIGKILL' });
    await nex.startWorkload(echo);
  });

  it('that crashes all the time is started again later each time, then given up; the node goes on', async () => {
    const started = Date.now();
    const { node, lines } = await start(script('crash'), { agentRestartLimit: 2 });
    await using _ = node;
    const warnings = lines.filter(({ level }) => level === 'warn').map(({ fields }) => fields['inMs']);
    expect(warnings).toEqual([250, 500]);
    const last = lines.find(({ message }) => message === 'a local nexlet is given up');
    expect(last?.fields).toMatchObject({ why: 'exit code 3', starts: 3 });
    expect(Date.now() - started).toBeLessThan(10_000);
    expect((await new NexClient(await server.connect()).pingNodes()).nodes).toMatchObject([{ state: 'running' }]);
  });

  it('with a limit of 0 is started once', async () => {
    const { node, lines } = await start(script('crash'), { agentRestartLimit: 0 });
    await using _ = node;
    expect(lines.filter(({ message }) => message === 'local nexlet started')).toHaveLength(1);
  });

  it('that does not obey is killed, with what it has started', async () => {
    const stubborn = await start({ ...script('stubborn'), graceMs: 100 });
    const parent = await start(script('parent'));
    const line = parent.lines.find(({ message }) => message.startsWith('child '));
    const child = Number(line?.message.slice('child '.length));
    const pids = [pidIn(stubborn.lines), pidIn(parent.lines), child];
    expect(pids.map(isAlive)).toEqual([true, true, true]);
    await Promise.all([stubborn.node[Symbol.asyncDispose](), parent.node[Symbol.asyncDispose]()]);
    await waitFor('all to be gone', () => pids.every((pid) => !isAlive(pid)));
  });

  it('that a killed node has left is ended by the next one; a process that only has its number is not', async () => {
    const stateDir = join(dir.path, 'leftovers');
    const marks = join(stateDir, 'local-nexlets');
    const bystander = startProcess('sleep', ['600']);
    try {
      const first = await start(script('stubborn'), { stateDir });
      const left = pidIn(first.lines);
      // What a killed node leaves: the process, and its mark.
      const [mark = ''] = await readdir(marks);
      await writeFile(join(marks, 'reused'), JSON.stringify({ pid: bystander.pid, started: '1', boot: 'another' }));
      expect(mark).toMatch(/^\w{22}$/);
      const stateAfter = join(dir.path, 'after');
      await mkdir(stateAfter);
      await rename(marks, join(stateAfter, 'local-nexlets'));
      const next = await start(script('well'), { stateDir: stateAfter });
      await waitFor('the leftover to be gone', () => !isAlive(left));
      expect(isAlive(bystander.pid)).toBe(true);
      expect(next.lines.find(({ fields }) => fields['pids'] !== undefined)?.fields['pids']).toEqual([left]);
      await next.node[Symbol.asyncDispose]();
      first.node.abandon();
      await first.node[Symbol.asyncDispose]();
    } finally {
      await bystander[Symbol.asyncDispose]();
    }
  });
});

describe('a local nexlet that is none', () => {
  it.each([
    ['/nowhere/nexlet', 'there is no such file'],
    ['/tmp', 'it is a folder'],
    ['nats://bucket/nexlet', 'it is no file of this machine'],
    ['FILE', 'it is not executable'],
  ])('%s: the node does not start: %s', async (uri, why) => {
    const file = join(dir.path, 'plain');
    await writeFile(file, 'text');
    await chmod(file, 0o644);
    const path = uri === 'FILE' ? file : uri;
    await expect(start({ uri: path })).rejects.toMatchObject({
      code: 'NODE_LOCAL_NEXLET_INVALID',
      message: `Cannot run the nexlet "${path}": ${why}`,
    });
  });
});
