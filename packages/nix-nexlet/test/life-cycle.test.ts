import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StartContext } from '@nex-nix/nexlet';
import type { PathSource } from '@nex-nix/nix';
import { createFeeds } from '@nex-nix/nexlet';
import { describeWith } from '@nex-nix/test-kit';
import { createXKey, natsConnectionData } from '@nex-nix/protocol';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Feed, leftovers, type Network, openNode, processesOf, startNetwork, TOOLS, User } from './bed.ts';

const ABSENT = '/nix/store/00000000000000000000000000000000-absent-1.0';
const WAIT = 'while :; do sleep 0.02; done';

describeWith(TOOLS, 'life of a nix workload', () => {
  let network: Network;
  let user: User;
  let count = 0;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());

  const stateDir = () => join(network.dir.path, `node-${count}`);
  const freshNode = (options: Partial<Parameters<typeof openNode>[0]> = {}) => {
    count++;
    return openNode({ nc: network.nc, key: network.key, stateDir: stateDir(), ...options });
  };

  it('runs it, publishes what it says, and leaves nothing of it', async () => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const id = await user.start(`env; echo to stderr >&2; echo ready; trap 'echo bye; exit 0' TERM; ${WAIT}`, {
      environment: { GREETING: 'hi=you' },
    });
    await feed.line(id, 'ready');
    await feed.line(id, 'to stderr');
    expect(await user.find(id)).toMatchObject({
      name: 'job',
      workload_state: 'running',
      workload_lifecycle: 'service',
      metadata: { store_path: network.shell },
    });
    const said = feed.lines.filter((line) => line.id === id);
    expect(said.filter(({ stream }) => stream === 'stderr').map(({ text }) => text)).toEqual(['to stderr']);
    const environment = said.map(({ text }) => text).filter((text) => /^[A-Z_0-9]+=/.test(text));
    expect(environment.filter((text) => !/^(PWD|SHLVL|OLDPWD)=/.test(text)).sort()).toEqual(
      [
        'GREETING=hi=you',
        'HOME=/tmp',
        `NATS_URL=${network.server.url}`,
        'NEX_NAMESPACE=default',
        `NEX_WORKLOAD_ID=${id}`,
        'NEX_WORKLOAD_NAME=job',
        'NEX_WORKLOAD_NATS_B64_JWT=',
        `NEX_WORKLOAD_NATS_INBOX_PREFIX=_INBOX_${id}`,
        'NEX_WORKLOAD_NATS_NKEY=',
        `NEX_WORKLOAD_NATS_SERVERS=${network.server.url}`,
        `PATH=${network.shell}/bin`,
      ].sort(),
    );
    expect((await processesOf(id)).length).toBeGreaterThan(0);

    const record = JSON.parse(await readFile(join(stateDir(), 'workloads', `${id}.json`), 'utf8')) as object;
    expect(record).toMatchObject({ version: 1, id, request: { name: 'job' }, sandbox: { id } });

    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true, id });
    expect(await processesOf(id)).toEqual([]);
    expect(await leftovers(stateDir())).toEqual([]);
    expect(await user.find(id)).toBeUndefined();
    await feed.line(id, 'bye');
    expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    expect(feed.eventsOf(id)).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED']);
  });

  it('shows a job that is done as stopped', async () => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const id = await user.start('echo done', {}, 'job');
    expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    expect(feed.texts(id)).toEqual(['done']);
    expect((await user.find(id))?.workload_state).toBe('stopped');
    expect(await leftovers(stateDir())).toEqual([]);
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(await user.find(id)).toBeUndefined();
  });

  it.each([
    ['fails', 'exit 3', {}, { code: '3', message: 'it ended with exit code 3' }],
    ['crashes', "sh -c 'kill -SEGV $$'; exit $?", {}, { code: 'SIGSEGV', message: 'it was ended by SIGSEGV' }],
    [
      'uses too much memory',
      'sleep 0.1; dd if=/dev/zero of=/tmp/big bs=1M count=60',
      { resources: { memory: '24MiB', tmp: '64MiB' } },
      { code: 'OUT_OF_MEMORY', message: 'it used more memory than its limit' },
    ],
    [
      'is not there',
      '',
      { program: 'bin/absent' },
      { code: 'NIX_NEXLET_PROGRAM_NOT_FOUND', message: /"bin\/absent" is not an executable file in it$/ },
    ],
  ])('tells why a program ends that %s', async (_, script, more, error) => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const id = await user.start(script, { restart: { policy: 'never' }, ...more });
    const stopped = await feed.event(id, 'WORKLOADSTOPPED');
    expect(stopped.error?.code).toBe(error.code);
    expect(stopped.error?.message).toMatch(error.message);
    const found = await user.find(id);
    expect(found?.workload_state).toBe('error');
    expect(found?.metadata?.['reason']).toBe(stopped.error?.message);
    expect(await leftovers(stateDir())).toEqual([]);
  });

  it('refuses a store path that is nowhere, and knows nothing of it afterwards', async () => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    await expect(user.start('', { store_path: ABSENT })).rejects.toThrow(ABSENT);
    expect((await user.client.listWorkloads()).workloads).toEqual([]);
    expect(feed.events).toEqual([]);
  });

  it('lets nobody of another namespace stop it', async () => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const id = await user.start(`echo ready; ${WAIT}`);
    await feed.line(id, 'ready');
    const other = new User(network, 'other');
    await expect(other.client.stopWorkload(id)).rejects.toMatchObject({ code: 'NEX_WORKLOAD_NOT_FOUND' });
    expect((await user.find(id))?.workload_state).toBe('running');
  });

  /** A cache that stands still at one point until whoever asks gives up. */
  const stuck = (point: 'closure' | 'nar') => {
    const reached = Promise.withResolvers<void>();
    const stand = async (signal: AbortSignal | undefined): Promise<never> => {
      reached.resolve();
      const aborted = Promise.withResolvers<never>();
      signal?.addEventListener('abort', () => aborted.reject(signal.reason));
      return aborted.promise;
    };
    const wrap = (cache: PathSource): PathSource => ({
      name: 'stuck',
      pathInfo: (path, options) => (point === 'closure' ? stand(options?.signal) : cache.pathInfo(path, options)),
      // oxlint-disable-next-line require-yield -- it never gets so far
      nar: async function* (_info, options) {
        await stand(options?.signal);
      },
    });
    return { reached: reached.promise, wrap };
  };

  it('stops it while its closure is fetched', async () => {
    const { reached, wrap } = stuck('nar');
    await using _node = await freshNode({ wrap });
    await using feed = await Feed.open(network.nc, 'default');
    const id = await user.start('');
    await reached;
    expect((await user.find(id))?.workload_state).toBe('starting');
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    expect(await user.find(id)).toBeUndefined();
    expect(await leftovers(stateDir())).toEqual([]);
  });

  it('ends with a node that closes while it looks for the closure', async () => {
    const { reached, wrap } = stuck('closure');
    const node = await freshNode({ wrap });
    const refused = expect(user.start('')).rejects.toThrow('was stopped');
    await reached;
    await node[Symbol.asyncDispose]();
    await refused;
    expect(await leftovers(stateDir())).toEqual([]);
  });

  it('stops it at whatever moment of its start', async () => {
    await using _node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    for (let attempt = 0; attempt < 8; attempt++) {
      const id = await user.start(WAIT, { stop: { grace: '0s' } });
      const began = performance.now();
      // The moment is what is tested, so time itself is waited for here.
      while (performance.now() - began < attempt * 8) await new Promise((resolve) => setImmediate(resolve));
      expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
      expect(await processesOf(id)).toEqual([]);
      expect(await leftovers(stateDir())).toEqual([]);
      expect(await feed.event(id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    }
  });

  it('starts an id once, however often it is asked to', async () => {
    await using node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const { definition } = node.nexlet;
    const runRequest = {
      store_path: network.shell,
      program: 'bin/sh',
      argv: ['-c', WAIT],
      stop: { grace: '0s' },
    };
    const context: StartContext = {
      workloadId: 'same',
      runRequest,
      request: {
        description: '',
        name: 'same',
        namespace: 'default',
        run_request: JSON.stringify(runRequest),
        tags: {},
        workload_lifecycle: 'service',
        workload_type: 'nix',
      },
      credentials: natsConnectionData({}),
      existing: false,
      feeds: createFeeds(network.nc),
      xkey: createXKey(),
    };
    const starts = await Promise.allSettled([definition.start(context), definition.start(context)]);
    expect(starts.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(starts[1]).toMatchObject({ reason: { code: 'NIX_NEXLET_WORKLOAD_EXISTS' } });
    expect(await definition.start({ ...context, existing: true })).toEqual({ id: 'same', name: 'same' });
    await user.state('same', 'running');
    await expect(definition.start(context)).rejects.toMatchObject({ code: 'NIX_NEXLET_WORKLOAD_EXISTS' });
    await expect(definition.start({ ...context, workloadId: '../same' })).rejects.toThrow('its id is not made of');
    expect((await user.find('same'))?.workload_state).toBe('running');
    expect(feed.eventsOf('same')).toEqual(['WORKLOADSTARTED']);
    // Behind the back of the node, which takes what runs into its desired state, it would be started again.
    expect(await user.client.stopWorkload('same')).toMatchObject({ stopped: true });
    expect(await leftovers(stateDir())).toEqual([]);
  });

  it('stops all its workloads with the node', async () => {
    const node = await freshNode();
    await using feed = await Feed.open(network.nc, 'default');
    const ids = await Promise.all([user.start(`echo ready; ${WAIT}`), user.start(`echo ready; ${WAIT}`)]);
    for (const id of ids) await feed.line(id, 'ready');
    await node[Symbol.asyncDispose]();
    for (const id of ids) await feed.event(id, 'WORKLOADSTOPPED');
    expect(await leftovers(stateDir())).toEqual([]);
  });
});
