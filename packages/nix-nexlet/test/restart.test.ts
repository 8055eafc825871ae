import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Minter } from '@nex-nix/node';
import { natsConnectionData } from '@nex-nix/protocol';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  Feed,
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

describeWith(TOOLS, 'restarts of a service', () => {
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

  const open = (more: Partial<Parameters<typeof openNode>[0]> = {}) =>
    openNode({ nc: network.nc, key: network.key, stateDir, ...more });
  const killAll = async (id: string) => {
    for (const pid of await processesOf(id)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        // It went with another one.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  };

  it('come after each failure until it is given up, with its lines in order and a word when it is a crash loop', async () => {
    await using _node = await open();
    const id = await user.start('echo begin; echo end; exit 3', {
      restart: { policy: 'on-failure', max_retries: 3, backoff: '50ms' },
    });
    const stopped = await feed.event(id, 'WORKLOADSTOPPED');
    const reason = 'it ended with exit code 3; given up after 3 retries';
    expect(stopped.error).toEqual({ code: '3', message: reason });
    const again = ['WORKLOADRESTARTING', 'WORKLOADSTARTED'];
    expect(feed.eventsOf(id)).toEqual([
      'WORKLOADSTARTED',
      ...again,
      ...again,
      'WORKLOADRESTARTING',
      'WORKLOADCRASHLOOP',
      'WORKLOADSTARTED',
      'WORKLOADSTOPPED',
    ]);
    expect(feed.texts(id)).toEqual(Array.from({ length: 4 }, () => ['begin', 'end']).flat());
    const news = feed.events.filter(({ name }) => name === 'WORKLOADRESTARTING');
    expect(news.map(({ restarts }) => restarts)).toEqual([1, 2, 3]);
    expect(news[0]).toMatchObject({ id, error: { code: '3', message: 'it ended with exit code 3' } });
    expect(Date.parse(news[0]?.next_start ?? '')).not.toBeNaN();
    expect(await user.find(id)).toMatchObject({
      workload_state: 'error',
      metadata: { restarts: '3', exit_code: '3', reason },
    });
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('come by default also when it ended well; until then it is starting, and a stop ends it at once', async () => {
    await using _node = await open();
    const id = await user.start('echo hello', { restart: { backoff: '60m' } });
    const news = await feed.event(id, 'WORKLOADRESTARTING');
    expect(news).not.toHaveProperty('error');
    const found = await user.find(id);
    expect(found).toMatchObject({ workload_state: 'starting', metadata: { restarts: '1', exit_code: '0' } });
    expect(found?.metadata?.['next_start']).toBe(news.next_start);
    expect(await readdir(join(stateDir, 'sandboxes'))).not.toContain(id);
    const began = performance.now();
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    expect(await user.find(id)).toBeUndefined();
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('show a crash loop and why, and go on', async () => {
    await using _node = await open();
    const id = await user.start('exit 7', { restart: { backoff: '50ms' } });
    expect(await feed.event(id, 'WORKLOADCRASHLOOP')).toMatchObject({ restarts: 3, error: { code: '7' } });
    const found = await waitFor('the crash loop', async () => {
      const seen = await user.find(id);
      return seen?.metadata?.['crash_loop'] === 'true' && seen;
    });
    expect(found.metadata?.['reason']).toBe('crash loop: it ended with exit code 7');
    await waitFor('another start', () => feed.eventsOf(id).filter((name) => name === 'WORKLOADSTARTED').length >= 5);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(feed.endsOf(id)).toHaveLength(1);
  });

  it('survive a node that is killed between two runs: the next run comes once, and the count goes on', async () => {
    const script = `echo "run \${#TOKEN}"; exit 1`;
    let id: string;
    {
      await using node = await startNodeProcess(network, stateDir);
      id = await user.start(script, { restart: { backoff: '800ms' } }, 'service', { TOKEN: 'sealed' });
      await waitFor('two runs', () =>
        feed.events.some(({ restarts, name }) => name === 'WORKLOADRESTARTING' && restarts === 2),
      );
      node.kill('SIGKILL');
      await node.exited;
    }
    expect(feed.texts(id)).toEqual(['run 6', 'run 6']);
    expect(await processesOf(id)).toEqual([]);
    await using _node = await open();
    await waitFor('the third end', () =>
      feed.events.some(({ restarts, name }) => name === 'WORKLOADRESTARTING' && restarts === 3),
    );
    expect(feed.texts(id)).toEqual(['run 6', 'run 6', 'run 6']);
    expect(feed.eventsOf(id).filter((name) => name === 'WORKLOADSTARTED')).toHaveLength(3);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('give one that was adopted the credentials of now, also one that was killed', async () => {
    let round = 0;
    const data = async () =>
      natsConnectionData({ nats_servers: [network.server.url], nats_user_seed: `SUROUND${++round}` });
    const plain = async () => natsConnectionData({ nats_servers: [network.server.url] });
    const minter: Minter = { registration: plain, agent: plain, workload: data };
    const script = `echo "$NEX_WORKLOAD_NATS_NKEY"; ${WAIT}`;
    let id: string;
    {
      await using _node = await open({ minter, onClose: 'leave' });
      id = await user.start(script, { restart: { backoff: '50ms' } });
      await feed.line(id, 'SUROUND1');
    }
    await using _node = await open({ minter });
    await user.state(id, 'running');
    await killAll(id);
    expect((await feed.event(id, 'WORKLOADRESTARTING')).error?.code).toBe('SIGKILL');
    await feed.line(id, `SUROUND${round}`);
    expect(round).toBeGreaterThan(1);
    expect(feed.texts(id)).toEqual(['SUROUND1', `SUROUND${round}`]);
  });

  it('wait with a node that lets go of it, and come with the next one', async () => {
    let id: string;
    {
      await using _node = await open({ onClose: 'leave' });
      id = await user.start('echo run; exit 1', { restart: { backoff: '1s' } });
      await feed.event(id, 'WORKLOADRESTARTING');
    }
    expect(feed.endsOf(id)).toEqual([]);
    await using _node = await open();
    await waitFor('the second run', () => feed.texts(id).length === 2);
    await waitFor('its end', () => feed.events.some(({ restarts }) => restarts === 2));
    expect(feed.endsOf(id)).toEqual([]);
  });
});
