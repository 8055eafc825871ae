import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core';
import { natsConnectionData } from '@nex-nix/protocol';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
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
  type TestNode,
  User,
} from './bed.ts';

const head = (message: Msg) =>
  Object.fromEntries((message.headers?.keys() ?? []).map((key) => [key, message.headers?.get(key)]));

describeWith(TOOLS, 'a function', () => {
  let network: Network;
  let user: User;
  let node: TestNode;
  let feed: Feed;
  let count = 0;

  const stateDir = () => join(network.dir.path, 'node');

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
    node = await openNode({ nc: network.nc, key: network.key, stateDir: stateDir() });
    feed = await Feed.open(network.nc, 'default');
  });
  afterAll(async () => {
    await feed[Symbol.asyncDispose]();
    await node[Symbol.asyncDispose]();
    expect(await leftovers(stateDir())).toEqual([]);
    await network[Symbol.asyncDispose]();
  });

  /** Starts a function with a subject of its own; stopped when disposed. */
  const deploy = async (script: string, more: Record<string, unknown> = {}) => {
    const subject = `fn.${++count}`;
    const request = { network: 'none', triggers: [subject], ...more };
    const id = await user.start(script, request, 'function');
    await user.state(id, 'warm');
    let stopped: Promise<unknown> | undefined;
    const stop = () => (stopped ??= user.client.stopWorkload(id));
    return {
      id,
      subject,
      call: (body: string | Uint8Array = '', given?: MsgHdrs) =>
        network.nc.request(subject, body, { timeout: 10_000, ...(given === undefined ? {} : { headers: given }) }),
      stop,
      [Symbol.asyncDispose]: async () => void (await stop()),
    };
  };

  it('answers each message with what one run of its program prints', async () => {
    await using fn = await deploy('echo "$NEX_WORKLOAD_ID $NEX_TRIGGER_SUBJECT"; cat; echo note >&2');
    const reply = await fn.call('payload');
    expect(reply.string()).toBe(`${fn.id} ${fn.subject}\npayload`);
    expect(head(reply)).toEqual({ workload_id: fn.id, namespace: 'default' });
    await feed.line(fn.id, 'note');
    expect(feed.lines.find(({ id }) => id === fn.id)?.stream).toBe('stderr');
    expect(await feed.event(fn.id, 'WORKLOADTRIGGERED')).toMatchObject({ duration: expect.any(Number) as unknown });
    expect(feed.eventsOf(fn.id)).toEqual(['WORKLOADSTARTED', 'WORKLOADTRIGGERED']);
    const found = await user.find(fn.id);
    expect(found).toMatchObject({ workload_state: 'warm', runtime: expect.stringMatching(/^0\.\d{3}s$/) as unknown });
    expect(found?.metadata).toMatchObject({ invocations: '1', failed_invocations: '0' });
    expect(await fn.stop()).toMatchObject({ stopped: true });
    expect(await feed.event(fn.id, 'WORKLOADSTOPPED')).not.toHaveProperty('error');
    await expect(fn.call()).rejects.toThrow('no responders');
  });

  it('has the headers of the message in its environment, whatever they are called', async () => {
    await using fn = await deploy('env');
    const given = headers();
    given.set('Content-Type', 'text/plain');
    given.append('x.a', '1 = one');
    given.append('X-A', '2');
    given.set('PATH', '/evil');
    const said = (await fn.call('', given)).string();
    expect(said).toContain('\nNEX_TRIGGER_HEADER_CONTENT_TYPE=text/plain\n');
    expect(said).toContain('\nNEX_TRIGGER_HEADER_X_A=1 = one\n2\n');
    expect(said).toContain('\nNEX_TRIGGER_HEADER_PATH=/evil\n');
    expect(said).toContain(`\nPATH=${network.shell}/bin\n`);
    const large = headers();
    for (let index = 0; index < 10; index++) large.append('big', 'x'.repeat(7000));
    expect(head(await fn.call('', large))['error']).toContain('its headers have 70030 bytes');
  });

  it.each([
    ['fails', 'echo half; exit 3', {}, 'it ended with exit code 3'],
    [
      'takes too long',
      'while :; do sleep 0.05; done',
      { function: { timeout: '300ms' } },
      'it ran longer than its time limit of 300ms',
    ],
    [
      'takes too much memory',
      'dd if=/dev/zero of=/tmp/big bs=1M count=60',
      { resources: { memory: '24MiB', tmp: '64MiB' } },
      'it used more memory than its limit',
    ],
    [
      'prints more than a reply may have',
      'dd if=/dev/zero bs=64k count=17 2>/dev/null',
      {},
      /it is more than 1044480 bytes/,
    ],
  ])('answers with an error and nothing else when it %s', async (_, script, more, error) => {
    await using fn = await deploy(script, more);
    const reply = await fn.call();
    expect(head(reply)).toMatchObject({ workload_id: fn.id, namespace: 'default' });
    expect(head(reply)['error']).toMatch(error);
    expect(reply.data).toHaveLength(0);
    expect((await user.find(fn.id))?.metadata).toMatchObject({ invocations: '1', failed_invocations: '1' });
    // It goes on.
    expect(head(await fn.call())['error']).toMatch(error);
  });

  const sandboxesOf = async (id: string) =>
    (await readdir(join(stateDir(), 'sandboxes'))).filter((name) => name.startsWith(`${id}-`));

  it('runs no more at once than it may, and keeps as many ready as it was told', async () => {
    const script = 'echo begin >&2; sleep 0.3; echo end >&2; echo done';
    await using fn = await deploy(script, { function: { warm: 2, concurrency: 2 } });
    const twoWait = async () => (await sandboxesOf(fn.id)).length === 2;
    await waitFor('two of them', twoWait);
    const replies = await Promise.all(Array.from({ length: 6 }, () => fn.call()));
    expect(replies.map((reply) => reply.string())).toEqual(Array.from({ length: 6 }, () => 'done\n'));
    await waitFor('its lines', () => feed.texts(fn.id).length === 12);
    let running = 0;
    const counts = feed.texts(fn.id).map((line) => (running += line === 'begin' ? 1 : -1));
    expect(Math.max(...counts)).toBe(2);
    await waitFor('two of them again', twoWait);
  });

  it('runs without any that wait', async () => {
    await using fn = await deploy('cat', { function: { warm: 0 } });
    expect((await fn.call('cold')).string()).toBe('cold');
  });

  it('gives renewed credentials to what is invoked from then on', async () => {
    await using fn = await deploy('echo "$NEX_WORKLOAD_NATS_SERVERS"');
    const renewed = natsConnectionData({ nats_servers: [network.server.url, 'nats://renewed:4222'] });
    await node.nexlet.definition.renew?.(fn.id, renewed);
    expect((await fn.call()).string()).toBe(`${network.server.url},nats://renewed:4222\n`);
  });

  it('answers with the reason when no sandbox can be made, and goes on when one can', async () => {
    await using fn = await deploy('cat', { function: { warm: 0 } });
    const store = join(stateDir(), 'store', network.shell);
    await rename(store, `${store}-away`);
    try {
      expect(head(await fn.call())['error']).toContain('is not an executable file in it');
    } finally {
      await rename(`${store}-away`, store);
    }
    expect((await fn.call('back')).string()).toBe('back');
  });

  it('makes another one in the place of a sandbox that dies while it waits', async () => {
    await using fn = await deploy('cat', { function: { warm: 1 } });
    const [first = ''] = await sandboxesOf(fn.id);
    for (const pid of await processesOf(first)) process.kill(pid, 'SIGKILL');
    await waitFor('another one', async () => {
      const [next] = await sandboxesOf(fn.id);
      return next !== undefined && next !== first;
    });
    expect((await fn.call('alive')).string()).toBe('alive');
  });

  it('shares its messages with functions of the same name', async () => {
    await using one = await deploy('echo one', { triggers: ['shared.>'] });
    await using two = await deploy('echo two', { triggers: ['shared.>'] });
    const said = new Set<string>();
    await waitFor('both to answer', async () => {
      said.add((await network.nc.request('shared.x', '', { timeout: 10_000 })).string());
      return said.size === 2;
    });
    const invocations = async (id: string) => Number((await user.find(id))?.metadata?.['invocations']);
    const before = (await invocations(one.id)) + (await invocations(two.id));
    await network.nc.request('shared.y', '', { timeout: 10_000 });
    expect((await invocations(one.id)) + (await invocations(two.id))).toBe(before + 1);
  });

  it('finishes what it has begun when it is stopped, unless that takes longer than its grace', async () => {
    await using quick = await deploy('echo begun >&2; sleep 0.3; echo done', { stop: { grace: '5s' } });
    await using slow = await deploy('echo begun >&2; sleep 100; echo done', { stop: { grace: '100ms' } });
    const replies = Promise.all([quick.call(), slow.call()]);
    for (const { id } of [quick, slow]) await feed.line(id, 'begun');
    await Promise.all([quick, slow].map((fn) => fn.stop()));
    const [finished, ended] = await replies;
    expect(finished.string()).toBe('done\n');
    expect(head(ended)['error']).toBe('the workload is ending');
  });

  it('is over when a subject cannot be subscribed to', async () => {
    const id = await user.start('cat', { network: 'none', triggers: ['a..b'] }, 'function');
    const { error } = await feed.event(id, 'WORKLOADSTOPPED');
    expect(error?.code).toBe('NEXLET_TRIGGER_INVALID');
    expect((await user.find(id))?.workload_state).toBe('error');
    await user.client.stopWorkload(id);
  });

  it('is started again by the next node when its own was killed, and nothing of the first one is left', async () => {
    const other = join(network.dir.path, 'killed');
    await node[Symbol.asyncDispose]();
    try {
      const first = await startNodeProcess(network, other);
      const fn = await deploy('[ "$(cat)" = loop ] && { echo begun >&2; while :; do sleep 0.1; done; }; echo ok');
      network.nc.publish(fn.subject, 'loop');
      await feed.line(fn.id, 'begun');
      first.kill('SIGKILL');
      await first.exited;
      await using _second = await startNodeProcess(network, other);
      await user.state(fn.id, 'warm');
      expect((await fn.call()).string()).toBe('ok\n');
      await fn.stop();
      expect(await leftovers(other)).toEqual([]);
    } finally {
      await sweep(other);
    }
  });
});
