import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseStorePath } from '@nex-nix/nix';
import { OciRuntime } from '@nex-nix/sandbox';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  Feed,
  freePort,
  leftovers,
  type Network,
  openNode,
  startNetwork,
  startNodeProcess,
  sweep,
  TOOLS,
  User,
} from './bed.ts';

const RETRY = { restart: { policy: 'on-failure', backoff: '50ms' } };

describeWith(TOOLS, 'jobs', () => {
  let network: Network;
  let user: User;
  let feed: Feed;
  let stateDir: string;
  let count = 0;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());
  beforeEach(async () => {
    stateDir = join(network.dir.path, `node-${++count}`);
    feed = await Feed.open(network.nc, 'default');
  });
  afterEach(async () => {
    await feed[Symbol.asyncDispose]();
    await sweep(stateDir);
  });

  const open = () => openNode({ nc: network.nc, key: network.key, stateDir });

  it('that fail are retried when they ask for it, until they succeed, and never after that', async () => {
    await using _node = await open();
    const port = await freePort();
    const retry = { restart: { ...RETRY.restart, max_retries: 1_000 } };
    const id = await user.start(`echo try; exec nc 127.0.0.1 ${port} </dev/null`, retry, 'job');
    const tries = () => feed.texts(id).filter((text) => text === 'try').length;
    await waitFor('two tries', () => tries() >= 2);
    expect(feed.endsOf(id)).toEqual([]);
    await using server = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    expect(await user.find(id)).toMatchObject({
      workload_state: 'stopped',
      metadata: { exit_code: '0', restarts: String(tries() - 1) },
    });
    expect(feed.eventsOf(id)).not.toContain('WORKLOADCRASHLOOP');
  });

  it('that go on failing are given up after three retries, and not retried at all unless they ask for it', async () => {
    await using _node = await open();
    const [retried, once] = await Promise.all([
      user.start('echo try; exit 9', RETRY, 'job'),
      user.start('echo try; exit 9', {}, 'job'),
    ]);
    expect((await feed.event(once, 'WORKLOADSTOPPED')).error?.message).toBe('it ended with exit code 9');
    expect((await feed.event(retried, 'WORKLOADSTOPPED')).error?.message).toBe(
      'it ended with exit code 9; given up after 3 retries',
    );
    expect(feed.texts(retried)).toHaveLength(4);
    expect(feed.texts(once)).toHaveLength(1);
    const shown = { workload_state: 'error', metadata: { exit_code: '9', restarts: '3' } };
    expect(await user.find(retried)).toMatchObject(shown);
    expect(await user.find(once)).toMatchObject({ ...shown, metadata: { exit_code: '9', restarts: '0' } });
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('that vanish with the machine are retried only when they ask for it', async () => {
    let ids: string[];
    {
      await using node = await startNodeProcess(network, stateDir);
      ids = await Promise.all([
        user.start('echo here; exec sleep 100', RETRY, 'job'),
        user.start('echo here; exec sleep 100', {}, 'job'),
      ]);
      for (const id of ids) await feed.line(id, 'here');
      node.kill('SIGKILL');
      await node.exited;
      await sweep(stateDir);
    }
    await using _node = await open();
    const [retried = '', once = ''] = ids;
    expect((await feed.event(once, 'WORKLOADSTOPPED')).error?.code).toBe('LOST');
    expect((await feed.event(retried, 'WORKLOADRESTARTING')).error?.code).toBe('LOST');
    await waitFor('the retry', () => feed.texts(retried).length === 2);
    expect(await user.state(retried, 'running')).toMatchObject({ metadata: { restarts: '1' } });
    expect(feed.texts(once)).toHaveLength(1);
  });

  it('that were written down and never started are no loss: they are forgotten, for their node to start them', async () => {
    const id = 'never-started';
    const request = {
      description: '',
      name: 'job',
      namespace: 'default',
      run_request: JSON.stringify({ store_path: network.shell, program: 'bin/sh', argv: ['-c', 'echo once'] }),
      tags: {},
      workload_lifecycle: 'job',
      workload_type: 'nix',
    };
    {
      await using runtime = await OciRuntime.open({ stateDir: join(stateDir, 'sandboxes') });
      const sandbox = await runtime.create({
        id,
        closure: [{ storePath: parseStorePath(network.shell), source: network.shell }],
        program: `${network.shell}/bin/sh`,
        argv: [],
        environment: {},
        resources: {},
        network: 'none',
      });
      const record = { version: 1, id, request, startTime: new Date().toISOString(), sandbox: sandbox.record };
      await mkdir(join(stateDir, 'workloads'), { recursive: true });
      await writeFile(join(stateDir, 'workloads', `${id}.json`), JSON.stringify(record));
    }
    await using _node = await open();
    expect(await user.find(id)).toBeUndefined();
    expect(await leftovers(stateDir)).toEqual([]);
    expect(feed.events.filter((event) => event.id === id)).toEqual([]);
  });
});
