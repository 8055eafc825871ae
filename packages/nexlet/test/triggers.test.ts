import { natsConnectionData } from '@nex-nix/protocol';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveTriggers, type ServeTriggersOptions } from '../src/index.ts';

/** What a node grants to a workload: its own subjects, and one reply to each message. */
const USERS = `authorization { users = [
  { user: all, password: all },
  { user: w, password: w, permissions: {
    subscribe: ["jobs.>", "_INBOX.>"], publish: "_INBOX.>", allow_responses: true } } ] }`;

let server: TestNatsServer;
let nc: NatsConnection;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false, config: USERS });
  nc = await server.connect({ user: 'all', pass: 'all' });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const serve = (options: Partial<ServeTriggersOptions>) =>
  serveTriggers(natsConnectionData({ nats_servers: [server.url], nats_user_name: 'w', nats_user_password: 'w' }), {
    workloadId: 'w1',
    namespace: 'default',
    name: 'fn',
    subjects: ['jobs.*'],
    handler: async () => 'done',
    ...options,
  });

const head = (msg: Msg) => Object.fromEntries((msg.headers?.keys() ?? []).map((key) => [key, msg.headers?.get(key)]));
const call = (subject: string, body = '') => nc.request(subject, body, { timeout: 2_000 });

describe('serveTriggers()', () => {
  it('answers with the result and headers that say who answers', async () => {
    const handler: ServeTriggersOptions['handler'] = async ({ subject, data }) => `${subject} ${data.length}`;
    await using stack = new AsyncDisposableStack();
    stack.use(await serve({ handler, subjects: ['jobs.a', 'jobs.b.>'] }));
    const reply = await call('jobs.b.c', '1234');
    expect(reply.string()).toBe('jobs.b.c 4');
    expect(head(reply)).toEqual({ workload_id: 'w1', namespace: 'default' });
    expect((await call('jobs.a')).string()).toBe('jobs.a 0');
  });

  it('answers a failure with its text in one line, and goes on', async () => {
    let count = 0;
    const handler = async () => {
      if (++count === 1) throw new Error('no\r\nluck');
      return undefined;
    };
    await using stack = new AsyncDisposableStack();
    stack.use(await serve({ handler }));
    const failed = await call('jobs.a');
    expect(head(failed)).toEqual({ workload_id: 'w1', namespace: 'default', error: 'no luck' });
    expect(failed.data).toHaveLength(0);
    expect(head(await call('jobs.a'))).toEqual({ workload_id: 'w1', namespace: 'default' });
  });

  it('has each message handled once by the workloads of one name, and once by each name', async () => {
    const handled: string[] = [];
    const as = (workloadId: string, name: string, namespace = 'default') =>
      serve({ workloadId, name, namespace, handler: async () => void handled.push(`${namespace}.${name}`) });
    await using stack = new AsyncDisposableStack();
    for (const [id, name] of [
      ['w1', 'fn'],
      ['w2', 'fn'],
      ['w3', 'fn'],
      ['w4', 'other'],
    ] as const)
      stack.use(await as(id, name));
    stack.use(await as('w5', 'fn', 'elsewhere'));
    for (let message = 0; message < 20; message++) nc.publish('jobs.a');
    await nc.flush();
    await waitFor('all of them', () => handled.length >= 60);
    await call('jobs.a');
    const counts = Object.groupBy(handled, (key) => key);
    expect(handled.length).toBeLessThanOrEqual(63);
    for (const key of ['default.fn', 'default.other', 'elsewhere.fn']) {
      expect(counts[key]?.length).toBeGreaterThanOrEqual(20);
      expect(counts[key]?.length).toBeLessThanOrEqual(21);
    }
  });

  it('handles no more at once than it may, and finishes what it has taken before it ends', async () => {
    let running = 0;
    let most = 0;
    let done = 0;
    const gate = Promise.withResolvers<void>();
    const handler = async () => {
      most = Math.max(most, ++running);
      await gate.promise;
      running--;
      done++;
      return undefined;
    };
    const triggers = await serve({ handler, concurrency: 3 });
    for (let message = 0; message < 10; message++) nc.publish('jobs.a');
    await nc.flush();
    await waitFor('three at work', () => running === 3);
    const disposed = triggers[Symbol.asyncDispose]();
    gate.resolve();
    await disposed;
    expect({ most, done }).toEqual({ most: 3, done: 10 });
    expect(await triggers.closed).toBeUndefined();
    await expect(call('jobs.a')).rejects.toThrow('no responders');
  });

  it('answers at once that it is busy when more wait than may', async () => {
    const gate = Promise.withResolvers<void>();
    let running = 0;
    const handler = async () => {
      running++;
      await gate.promise;
      return 'done';
    };
    await using stack = new AsyncDisposableStack();
    stack.use(await serve({ handler, concurrency: 1, maxWaiting: 2 }));
    const taken = [call('jobs.a'), call('jobs.a'), call('jobs.a')];
    await waitFor('the first one', () => running === 1);
    const busy = await call('jobs.a');
    expect(head(busy)).toMatchObject({ workload_id: 'w1', error: 'busy: too many messages wait for it' });
    gate.resolve();
    expect((await Promise.all(taken)).map((reply) => reply.string())).toEqual(['done', 'done', 'done']);
  });

  it('answers with an error when the reply is larger than the server takes, and says before what it takes', async () => {
    let most = 0;
    await using stack = new AsyncDisposableStack();
    stack.use(await serve({ handler: async ({ data, maxReply }) => 'x'.repeat((most = maxReply) + data.length) }));
    const fitting = await call('jobs.a');
    expect(fitting.data).toHaveLength(most);
    expect(most).toBeGreaterThan(1_000_000);
    const tooLarge = await call('jobs.a', '1');
    expect(tooLarge.data).toHaveLength(0);
    expect(head(tooLarge)['error']).toContain(`its reply has ${most + 1} bytes, more than the ${most}`);
  });

  it.each([
    [{ subjects: ['forbidden'] }, 'NEXLET_TRIGGER_REFUSED', 'its credentials do not allow to subscribe to it'],
    [{ subjects: ['a b'] }, 'NEXLET_TRIGGER_INVALID', 'it is not a NATS subject'],
    [{ subjects: ['a.>.b'] }, 'NEXLET_TRIGGER_INVALID', 'it is not a NATS subject'],
    [{ subjects: ['a\r\nUNSUB 1'] }, 'NEXLET_TRIGGER_INVALID', 'it is not a NATS subject'],
    [{ name: 'fn 1\r\nPUB x 0' }, 'NEXLET_TRIGGER_INVALID', 'it is not one token'],
  ])('refuses %j', async (options, code, message) => {
    await expect(serve(options)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as unknown,
    });
  });
});
