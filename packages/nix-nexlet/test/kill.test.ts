import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NexClient } from '@nex-nix/protocol';
import { describeWith, type RunningProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Feed, type Network, processesOf, startNetwork, startNodeProcess, sweep, TOOLS, User } from './bed.ts';

const WORKLOADS = 20;
const KILLS = 20;
/** Prints its numbered lines as long as it lives. */
const COUNT = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done';

describeWith(TOOLS, 'a node that is killed', () => {
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

  const startNode = () => startNodeProcess(network, stateDir);
  const kill = async (node: RunningProcess) => {
    node.kill('SIGKILL');
    await node.exited;
  };
  /** Which process runs a workload, and which one supervises it, as they wrote it down. */
  const identity = (id: string) =>
    Promise.all(['pid', 'supervisor'].map((name) => readFile(join(stateDir, 'sandboxes', id, name), 'utf8')));
  const running = async () =>
    (await user.client.listWorkloads({ expected: 1 })).workloads.filter((one) => one.workload_state === 'running');

  it(`${KILLS} times under ${WORKLOADS} workloads: the same processes go on, one each, and no line is lost`, async () => {
    let node = await startNode();
    try {
      const ids: string[] = [];
      for (let i = 0; i < WORKLOADS; i++) ids.push(await user.start(COUNT));
      for (const id of ids) await feed.line(id, '1');
      const before = await Promise.all(ids.map(identity));
      for (let i = 0; i < KILLS; i++) {
        await kill(node);
        node = await startNode();
        expect((await running()).map(({ id }) => id).sort()).toEqual([...ids].sort());
      }
      expect(await Promise.all(ids.map(identity))).toEqual(before);
      expect((await readdir(join(stateDir, 'sandboxes'))).sort()).toEqual([...ids].sort());
      await Promise.all(ids.map((id) => user.client.stopWorkload(id)));
      for (const id of ids) {
        await feed.event(id, 'WORKLOADSTOPPED');
        const numbers = new Set(feed.printed(id).map(Number));
        expect(numbers.size).toBe(Math.max(...numbers));
        expect(numbers.size).toBeGreaterThan(KILLS);
        expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED']);
      }
      expect(await running()).toEqual([]);
    } finally {
      await kill(node);
    }
  }, 240_000);

  it('while it deploys and stops: what was accepted runs once, what was refused or stopped does not', async () => {
    const nex = new NexClient(network.nc, { namespace: 'default', stall: 30, timeout: 1_000 });
    const accepted = new Map<string, { name: string; lifecycle: 'service' | 'job' }>();
    const stopped = new Set<string>();
    let over = new AbortController();
    const deploy = async (name: string, lifecycle: 'service' | 'job', storePath = network.shell) => {
      const then = lifecycle === 'job' ? '' : 'while :; do sleep 0.1; done';
      const script = `read -r uuid </proc/sys/kernel/random/uuid; echo $NEX_WORKLOAD_NAME $uuid; ${then}`;
      const runRequest = { store_path: storePath, program: 'bin/sh', argv: ['-c', script], stop: { grace: '100ms' } };
      try {
        const { id } = await nex.startWorkload({ type: 'nix', name, lifecycle, runRequest, signal: over.signal });
        accepted.set(id, { name, lifecycle });
      } catch {
        // Refused, or without an answer: then it may run or not, but not twice.
      }
    };
    const stopOne = async () => {
      const [id] = [...accepted].find(([key, one]) => one.lifecycle === 'service' && !stopped.has(key)) ?? [];
      if (id === undefined) return;
      try {
        await nex.stopWorkload(id, { signal: over.signal });
        stopped.add(id);
      } catch {
        // Without an answer it may be stopped or not.
        accepted.delete(id);
      }
    };
    const absent = '/nix/store/00000000000000000000000000000000-absent-1.0';
    /** How long it takes when nobody kills it, in milliseconds: how fast this machine is now. */
    let undisturbed = 0;
    for (let round = 0; round < 6; round++) {
      await using node = await startNode();
      over = new AbortController();
      const began = performance.now();
      const work = [
        deploy(`service-${round}`, 'service'),
        deploy(`job-${round}`, 'job'),
        deploy(`absent-${round}`, 'service', absent),
        ...(round % 2 === 1 ? [stopOne()] : []),
      ];
      // The moment is what is tested, so time itself is waited for here.
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, (undisturbed * round) / 2));
      else await Promise.all(work);
      if (round === 0) undisturbed = performance.now() - began;
      await kill(node);
      over.abort();
      await Promise.all(work);
    }
    await using _node = await startNode();
    const runsOf = (name: string) =>
      new Set(feed.lines.map(({ text }) => text).filter((text) => text.startsWith(`${name} `)));
    for (const [id, { name, lifecycle }] of accepted) {
      if (stopped.has(id)) continue;
      await waitFor(`${name} to have begun`, () => runsOf(name).size > 0);
      expect(runsOf(name).size, name).toBe(1);
      if (lifecycle === 'service') await user.state(id, 'running');
      else await waitFor(`${name} to have ended well`, () => feed.endsOf(id).some(({ error }) => error === undefined));
    }
    expect(accepted.size).toBeGreaterThan(0);
    for (const id of stopped) {
      expect(await processesOf(id)).toEqual([]);
      expect((await user.find(id))?.workload_state).toBeUndefined();
    }
    for (let round = 0; round < 6; round++) {
      expect(runsOf(`absent-${round}`).size).toBe(0);
      expect(runsOf(`job-${round}`).size, `job-${round}`).toBeLessThanOrEqual(1);
    }
  }, 120_000);
});
