import { readFile } from 'node:fs/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/nats-core';
import { silentLogger } from '@nex-nix/nexlet';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import { describeWith, startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { DesiredWorkload } from '../src/state/desired-workload.ts';
import { KvState } from '../src/state/kv-state.ts';
import { openState } from '../src/state/open-state.ts';

const DAY = 24 * 3_600_000;

const request = (name: string, more: Partial<StartWorkloadRequest> = {}): StartWorkloadRequest => ({
  description: '',
  name,
  namespace: 'default',
  run_request: '{}',
  tags: {},
  workload_lifecycle: 'service',
  workload_type: 'my_type',
  ...more,
});

const workload = (id: string, more: Partial<DesiredWorkload> = {}): DesiredWorkload => ({
  id,
  request: request(id),
  owner: { name: 'one', xkey: 'X1' },
  progress: 'accepted',
  since: new Date('2026-05-01T10:00:00Z'),
  ...more,
});

describeWith(['nats-server'], 'KvState', () => {
  let server: TestNatsServer;
  let nc: NatsConnection;
  let count = 0;

  beforeAll(async () => {
    server = await startNatsServer();
    nc = await server.connect();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const freshNode = () => `NTEST${++count}`;
  const open = (nodeId: string) => KvState.open(jetstream(nc), { nodeId, logger: silentLogger });
  const bucketOf = (nodeId: string) => new Kvm(nc).open(`nex-${nodeId}`);

  it('gives back after a restart what was put, with keys that it does not know', async () => {
    const nodeId = freshNode();
    const odd = { ...request('odd'), from_the_future: { deep: [1] } } as StartWorkloadRequest;
    const large = request('large', { run_request: JSON.stringify({ x: 'y'.repeat(200_000) }) });
    const first = await open(nodeId);
    await first.put(workload('a'));
    await first.put(workload('odd', { request: odd, progress: 'starting' }));
    await first.put(workload('large', { request: large }));
    await first.put(workload('a', { progress: 'started' }));
    const second = await open(nodeId);
    const found = second.all().sort((one, other) => one.id.localeCompare(other.id));
    expect(found).toEqual([
      workload('a', { progress: 'started' }),
      workload('large', { request: large }),
      workload('odd', { request: odd, progress: 'starting' }),
    ]);
  });

  it('writes entries that Go nodes read: <type>_<id>, and the keys of a start request', async () => {
    const nodeId = freshNode();
    await (await open(nodeId)).put(workload('w1'));
    const entry = await (await bucketOf(nodeId)).get('my_type_w1');
    expect(entry?.json()).toMatchObject({ ...request('w1') });
  });

  it('reads entries that a Go node wrote, in its bucket for small values, as accepted', async () => {
    const nodeId = freshNode();
    const go = await new Kvm(nc).create(`nex-${nodeId}`, { maxValueSize: 10_000, max_bytes: 100_000_000 });
    await go.put('my_type_go1', JSON.stringify({ ...request('go1'), tags: null }));
    await go.put('my_type_go2', JSON.stringify(request('go2')));
    await go.purge('my_type_go2');
    await go.put('my_type_broken', '{');
    await go.put('other_type_go3', JSON.stringify(request('go3')));
    const state = await open(nodeId);
    expect(state.all()).toMatchObject([{ id: 'go1', request: { tags: {} }, progress: 'accepted' }]);
    expect(state.all()[0]).not.toHaveProperty('owner');
    expect(state.isRemoved('go2')).toBe(true);
    await state.put(workload('large', { request: request('large', { run_request: 'x'.repeat(20_000) }) }));
    expect((await open(nodeId)).get('large')).toBeDefined();
  });

  it('recognises what was removed for a day, and forgets it then', async () => {
    const nodeId = freshNode();
    const first = await open(nodeId);
    await first.put(workload('gone'));
    await first.remove('gone', 'my_type');
    const second = await open(nodeId);
    expect(second.all()).toEqual([]);
    expect([second.isRemoved('gone'), second.isRemoved('other')]).toEqual([true, false]);
    await second.flush();
    expect(second.isRemoved('gone')).toBe(true);
    const later = Date.now() + DAY + 1_000;
    const now = Date.now;
    Date.now = () => later;
    try {
      await second.flush();
    } finally {
      Date.now = now;
    }
    expect(second.isRemoved('gone')).toBe(false);
    const info = await (await jetstreamManager(nc)).streams.info(`KV_nex-${nodeId}`);
    expect(info.state.messages).toBe(0);
  });

  it('writes the last of several changes at once', async () => {
    const nodeId = freshNode();
    const first = await open(nodeId);
    await Promise.all([
      first.put(workload('busy', { progress: 'starting' })),
      first.put(workload('busy')),
      first.put(workload('busy', { progress: 'started' })),
      first.put(workload('gone')),
      first.remove('gone', 'my_type'),
    ]);
    const second = await open(nodeId);
    expect(second.all()).toEqual([workload('busy', { progress: 'started' })]);
    expect(second.isRemoved('gone')).toBe(true);
  });

  it('makes a bucket again that somebody deleted, with all that should be in it', async () => {
    const nodeId = freshNode();
    const first = await open(nodeId);
    await first.put(workload('a'));
    await (await jetstreamManager(nc)).streams.delete(`KV_nex-${nodeId}`);
    await first.put(workload('b'));
    expect(
      (await open(nodeId))
        .all()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['a', 'b']);
  });

  it('fails while JetStream is away, and stores it later', async () => {
    await using own = await startNatsServer();
    const connection = await own.connect({ reconnectTimeWait: 50, maxReconnectAttempts: -1 });
    const options = { nodeId: 'N', logger: silentLogger };
    const state = await KvState.open(jetstream(connection, { timeout: 300 }), options);
    await using _gap = await stopServer(own);
    await expect(state.put(workload('late'))).rejects.toMatchObject({ code: 'NODE_STATE_UNAVAILABLE' });
    expect(state.get('late')).toEqual(workload('late'));
    process.kill(own.pid, 'SIGCONT');
    await state.flush();
    expect((await KvState.open(jetstream(connection), options)).get('late')).toEqual(workload('late'));
  });
});

/** Stops the server's process until it is disposed of: it answers nobody meanwhile. */
async function stopServer(server: TestNatsServer): Promise<AsyncDisposable> {
  process.kill(server.pid, 'SIGSTOP');
  await waitFor('it to stand still', async () => (await readFile(`/proc/${server.pid}/stat`, 'utf8')).includes(') T '));
  return {
    async [Symbol.asyncDispose]() {
      process.kill(server.pid, 'SIGCONT');
    },
  };
}

describeWith(['nats-server'], 'openState()', () => {
  it('keeps nothing where there is no JetStream, and refuses to when it must', async () => {
    await using server = await startNatsServer({ jetstream: false });
    const nc = await server.connect();
    const lines: string[] = [];
    const logger = { ...silentLogger, info: (_fields: object, text: string) => lines.push(text) };
    const options = { nodeId: 'N', logger };
    expect(await openState(nc, { ...options, option: '' })).toBeUndefined();
    expect(lines).toEqual(['desired state is not kept: there is no JetStream for this node']);
    await expect(openState(nc, { ...options, option: 'kv' })).rejects.toMatchObject({
      code: 'NODE_STATE_UNAVAILABLE',
      hint: expect.stringContaining('--state none') as unknown,
    });
    expect(await openState(nc, { ...options, option: 'none' })).toBeUndefined();
  });

  it('keeps nothing for a user without the right to JetStream, and leaves the connection as it is', async () => {
    const config =
      'authorization { users: [{ user: n, password: n, permissions: { publish: ["$NEX.>"], subscribe: [">"] } }] }';
    await using server = await startNatsServer({ config });
    const nc = await server.connect({ user: 'n', pass: 'n' });
    expect(await openState(nc, { nodeId: 'N', option: '', logger: silentLogger })).toBeUndefined();
    await nc.flush();
  });

  it('keeps it in the bucket of the node', async () => {
    await using server = await startNatsServer();
    const nc = await server.connect();
    const state = await openState(nc, { nodeId: 'N1', option: 'kv', logger: silentLogger });
    await state?.put(workload('a'));
    expect((await KvState.open(jetstream(nc), { nodeId: 'N1', logger: silentLogger })).get('a')).toBeDefined();
  });
});
