import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OciRuntime, type Runtime } from '@nex-nix/sandbox';
import { describeWith, type RunningProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { readLogBookmark } from '../src/workload/log-bookmark.ts';
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

/** Prints its numbered lines as long as it lives. */
const COUNT = 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done';

/** A runtime that goes by the other name. */
const asMicrovm = (runtime: Runtime): Runtime => ({
  name: 'microvm',
  check: () => runtime.check(),
  create: (spec) => runtime.create(spec),
  adopt: (record) => runtime.adopt(record),
  [Symbol.asyncDispose]: () => runtime[Symbol.asyncDispose](),
});

describeWith(TOOLS, 'workloads that outlive their node', () => {
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

  const openHere = () => openNode({ nc: network.nc, key: network.key, stateDir });

  const startElsewhere = () => startNodeProcess(network, stateDir);

  const kill = async (node: RunningProcess): Promise<void> => {
    node.kill('SIGKILL');
    await node.exited;
  };

  const savedLines = async (id: string): Promise<number> => {
    const bookmark = await readLogBookmark(join(stateDir, 'workloads', `${id}.bookmark`));
    return bookmark?.position.stdout ?? 0;
  };

  const expectEveryLine = (id: string) => {
    const numbers = feed.printed(id).map((text) => Number(text.slice('line '.length)));
    const last = Math.max(...numbers);
    expect(new Set(numbers).size).toBe(last);
    expect(numbers.length).toBe(last);
  };

  it('goes on with one whose node was killed: the same process, and every line of it arrives once', async () => {
    await using first = await startElsewhere();
    const id = await user.start(COUNT);
    await feed.line(id, 'line 30');
    await kill(first);
    const before = await processesOf(id);
    expect(before.length).toBeGreaterThan(0);

    await using _node = await openHere();
    expect((await user.find(id))?.workload_state).toBe('running');
    const seen = feed.texts(id).length;
    await waitFor('lines of after the restart', () => feed.texts(id).length > seen + 30);
    const after = await processesOf(id);
    // Its shell stays; only its sleeps come and go.
    expect(before.filter((pid) => after.includes(pid)).length).toBeGreaterThanOrEqual(before.length - 1);
    // What was published in the moment before the kill comes again, and is known by its id.
    expectEveryLine(id);
    expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED']);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it('repeats nothing of one that was silent before the kill', async () => {
    await using first = await startElsewhere();
    const id = await user.start(
      `echo line 1; echo line 2; trap 'echo line 3; exit 4' USR1; while :; do sleep 0.02; done`,
      {
        stop: { signal: 'SIGUSR1', grace: '5s' },
      },
    );
    await feed.line(id, 'line 2');
    await waitFor('the position', async () => (await savedLines(id)) === 'line 1\nline 2\n'.length);
    await kill(first);
    await using _node = await openHere();
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    await feed.event(id, 'WORKLOADSTOPPED');
    expect(feed.printed(id)).toEqual(['line 1', 'line 2', 'line 3']);
  });

  it('is left running by a node that is told so, and every line of it arrives once', async () => {
    await using first = await startElsewhere();
    const id = await user.start(COUNT);
    await feed.line(id, 'line 10');
    first.kill('SIGTERM');
    expect(await first.exited, first.output()).toMatchObject({ code: 0 });
    expect((await processesOf(id)).length).toBeGreaterThan(0);
    await using _node = await openHere();
    const seen = feed.texts(id).length;
    await waitFor('lines of after the restart', () => feed.texts(id).length > seen + 30);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    await feed.event(id, 'WORKLOADSTOPPED');
    expectEveryLine(id);
    expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED']);
  });

  it('tells how one ended that ended without a node', async () => {
    await using first = await startElsewhere();
    const id = await user.start('echo line 1; sleep 0.5; echo line 2; exit 7', { restart: { policy: 'never' } });
    await feed.line(id, 'line 1');
    await kill(first);
    await waitFor('the end', async () => (await processesOf(id)).length === 0);
    await using _node = await openHere();
    expect((await feed.event(id, 'WORKLOADSTOPPED')).error).toEqual({
      code: '7',
      message: 'it ended with exit code 7',
    });
    expect(feed.printed(id).at(-1)).toBe('line 2');
    expect((await user.state(id, 'error')).metadata?.['reason']).toBe('it ended with exit code 7');
    expect(await leftovers(stateDir)).toEqual([]);
  });

  it.each(['always', 'never'])(
    'says so when nothing is left of one with restarts %s, and starts it again',
    async (policy) => {
      const news = policy === 'never' ? 'WORKLOADSTOPPED' : 'WORKLOADRESTARTING';
      await using first = await startElsewhere();
      const id = await user.start('sleep 100', { restart: { policy, backoff: '50ms' } });
      await user.state(id, 'running');
      await kill(first);
      await sweep(stateDir);
      await using _node = await openHere();
      expect((await feed.event(id, news)).error?.code).toBe('LOST');
      await user.state(id, 'running');
      expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED', news, 'WORKLOADSTARTED']);
      expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
      expect(await leftovers(stateDir)).toEqual([]);
    },
  );

  it('keeps what runs in sandboxes of a kind that its node does not offer any more, and starts nothing new in them', async () => {
    await using first = await startElsewhere();
    const id = await user.start(COUNT);
    await feed.line(id, 'line 5');
    await kill(first);
    await using oci = await OciRuntime.open({ stateDir: join(stateDir, 'sandboxes') });
    await using other = await OciRuntime.open({ stateDir: join(stateDir, 'others') });
    const runtimes = { microvm: asMicrovm(other), former: [oci] };
    await using _node = await openNode({ nc: network.nc, key: network.key, stateDir, runtimes });
    expect(await user.find(id)).toMatchObject({ workload_state: 'running', metadata: { sandbox: 'oci' } });
    await expect(user.start(COUNT, { sandbox: 'oci' })).rejects.toThrow(
      'has no sandboxes of the kind "oci", but microvm',
    );
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    await feed.event(id, 'WORKLOADSTOPPED');
    expectEveryLine(id);
  });

  it('shows one that ended under an earlier node, and does not run a job twice', async () => {
    let job: string;
    let service: string;
    {
      await using _node = await openHere();
      job = await user.start('echo once', {}, 'job');
      service = await user.start('exit 5', { restart: { policy: 'never' } });
      await feed.event(job, 'WORKLOADSTOPPED');
      await feed.event(service, 'WORKLOADSTOPPED');
    }
    await using _node = await openHere();
    expect(await user.find(job)).toMatchObject({ workload_state: 'stopped', metadata: { exit_code: '0' } });
    expect(await user.find(service)).toMatchObject({
      workload_state: 'error',
      metadata: { exit_code: '5', reason: 'it ended with exit code 5', restarts: '0' },
    });
    expect(feed.texts(job)).toEqual(['once']);
    expect(feed.eventsOf(job)).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED']);
    expect(await user.client.stopWorkload(service)).toMatchObject({ stopped: true });
    expect(await user.find(service)).toBeUndefined();
  });

  it('starts again what ended with its node: services, not jobs', async () => {
    let ids: string[];
    {
      await using _node = await openHere();
      ids = await Promise.all([user.start(COUNT), user.start(COUNT, {}, 'job')]);
      for (const id of ids) await feed.line(id, 'line 3');
    }
    for (const id of ids) expect(await processesOf(id)).toEqual([]);
    await using _node = await openHere();
    const [service = '', job = ''] = ids;
    await user.state(service, 'running');
    expect(await user.find(job)).toMatchObject({ workload_state: 'stopped' });
    expect(await processesOf(job)).toEqual([]);
  });

  it('starts in spite of records that cannot be read, and runs anew what they were about', async () => {
    await using first = await startElsewhere();
    const torn = await user.start('sleep 100');
    const lost = await user.start('sleep 100');
    await user.state(torn, 'running');
    await user.state(lost, 'running');
    await kill(first);
    const file = join(stateDir, 'workloads', `${torn}.json`);
    await writeFile(file, (await readFile(file, 'utf8')).slice(0, 50));
    await rm(join(stateDir, 'workloads', `${lost}.json`));
    const before = [...(await processesOf(torn)), ...(await processesOf(lost))];
    await using _node = await openHere();
    for (const id of [torn, lost]) {
      await user.state(id, 'running');
      const pids = await processesOf(id);
      expect(pids.length).toBeGreaterThan(0);
      expect(pids.filter((pid) => before.includes(pid))).toEqual([]);
    }
    expect(await readdir(join(stateDir, 'workloads'))).toContain(`${torn}.json.unreadable`);
  });
});
