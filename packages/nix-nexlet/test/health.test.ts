import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Subscription } from '@nats-io/nats-core';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  Feed,
  freePort,
  leftovers,
  type Network,
  openNode,
  processesOf,
  startNetwork,
  startNodeProcess,
  sweep,
  TOOLS,
  User,
} from './bed.ts';

const WAIT = 'while :; do sleep 0.05; done';
const FAST = { interval: '50ms', timeout: '1s', retries: 2 };
const RESTART = { backoff: '50ms' };

describeWith(TOOLS, 'health checks', () => {
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
  const times = (id: string, name: string) => feed.eventsOf(id).filter((event) => event === name).length;
  /** The health that lists show, once there is such a one. */
  const health = async (id: string, status: string) =>
    waitFor(`${id} to be ${status}`, async () => {
      const metadata = (await user.find(id))?.metadata;
      return metadata?.['health'] === status && metadata;
    });

  it('let a service run only once its web server answers with a 2xx', async () => {
    await using _node = await open();
    const port = await freePort();
    // What makes it ready is that somebody asks it to.
    const id = await user.start(
      `echo ready? >/tmp/index.html; httpd -f -p 127.0.0.1:${port} -h /tmp & nc -l -p ${port + 1} >/dev/null; echo hi >/tmp/up; ${WAIT}`,
      { health: { http: { port, path: '/up' }, ...FAST } },
    );
    const before = await waitFor('a failed check', async () => {
      const metadata = (await user.find(id))?.metadata;
      return metadata?.['health_failure'] === '/up is answered by 404' && metadata;
    });
    expect(before).toMatchObject({ health: 'starting' });
    expect((await user.find(id))?.workload_state).toBe('starting');
    expect(feed.eventsOf(id)).toEqual([]);
    await using other = new AsyncDisposableStack();
    await connectOnce(port + 1, other);
    await feed.event(id, 'WORKLOADSTARTED');
    expect((await user.find(id))?.workload_state).toBe('running');
    expect(await health(id, 'healthy')).not.toHaveProperty('health_failure');
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED']);
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('count one that is not healthy in time as failed, and say why', async () => {
    await using _node = await open();
    const port = await freePort();
    const id = await user.start(WAIT, {
      restart: { ...RESTART, policy: 'on-failure', max_retries: 1 },
      health: { tcp: port, ...FAST, start_timeout: '200ms' },
    });
    const { error } = await feed.event(id, 'WORKLOADSTOPPED');
    const message = `it was not healthy within 200 ms: port ${port} cannot be connected to: ECONNREFUSED; given up after 1 retry`;
    expect(error).toEqual({ code: 'UNHEALTHY', message });
    expect(feed.eventsOf(id)).toEqual(['WORKLOADRESTARTING', 'WORKLOADSTOPPED']);
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('restart one that hangs, and let it be when it recovers in time', async () => {
    await using _node = await open();
    let answering = true;
    let asked = 0;
    let listening: Subscription | undefined;
    const id = await user.start(WAIT, {
      restart: RESTART,
      health: { nats: 'health.{id}', interval: '60ms', timeout: '100ms', retries: 3 },
    });
    const listen = () =>
      network.nc.subscribe(`health.${id}`, {
        callback: (_error, msg) => {
          asked++;
          if (answering) msg.respond();
        },
      });
    expect(await waitFor('the first check', async () => (await user.find(id))?.metadata?.['health_failure'])).toBe(
      `nobody listens at "health.${id}"`,
    );
    listening = listen();
    await feed.event(id, 'WORKLOADSTARTED');
    answering = false;
    const seen = asked;
    await waitFor('a check that is not answered', () => asked > seen);
    answering = true;
    await health(id, 'healthy');
    expect(times(id, 'WORKLOADRESTARTING')).toBe(0);
    answering = false;
    const { error } = await feed.event(id, 'WORKLOADRESTARTING');
    expect(error).toEqual({
      code: 'UNHEALTHY',
      message: `its health check failed 3 times in a row: "health.${id}" is not answered in time`,
    });
    answering = true;
    await waitFor('the second start', () => times(id, 'WORKLOADSTARTED') === 2);
    expect((await user.find(id))?.metadata).toMatchObject({ health: 'healthy', restarts: '1' });
    listening.unsubscribe();
  });

  it('run commands in its sandbox, and go on after its node was killed', async () => {
    let id: string;
    const health = { exec: ['bin/sh', '-c', 'read -r up </tmp/up; echo "is $up"; [ $up = yes ]'], ...FAST };
    {
      await using node = await startNodeProcess(network, stateDir);
      id = await user.start(`trap 'echo no >/tmp/up' USR1; echo yes >/tmp/up; ${WAIT}`, { restart: RESTART, health });
      await feed.event(id, 'WORKLOADSTARTED');
      // Killed before, it would tell so a second time.
      const record = join(stateDir, 'workloads', `${id}.json`);
      await waitFor('its record to say so', async () => (await readFile(record, 'utf8')).includes('"up":true'));
      node.kill('SIGKILL');
      await node.exited;
    }
    await using _node = await open();
    expect(await user.state(id, 'running')).toMatchObject({ metadata: { health: 'healthy' } });
    expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED']);
    process.kill(await shellOf(id), 'SIGUSR1');
    const { error } = await feed.event(id, 'WORKLOADRESTARTING');
    expect(error?.message).toBe('its health check failed 2 times in a row: its command ended with 1: is no');
    await waitFor('the second start', () => times(id, 'WORKLOADSTARTED') === 2);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(await leftovers(stateDir)).toEqual([]);
  });
});

/** The process id of the shell that a workload's script runs in. */
async function shellOf(id: string): Promise<number> {
  for (const pid of await processesOf(id)) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes('/bin/sh\0-c\0trap')) return pid;
  }
  throw new Error(`No shell of workload ${id} is alive`);
}

async function connectOnce(port: number, stack: AsyncDisposableStack): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  stack.defer(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.end();
}
