import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FeedEvent, followEvents, followLogs, type LogEntry } from '../src/index.ts';

let server: TestNatsServer;

beforeAll(async () => {
  server = await startNatsServer({
    jetstream: false,
    config:
      'authorization { users = [ { user: a, password: a, permissions: { subscribe: ["$NEX.FEED.mine.>"] } }, { user: b, password: b } ] }',
  });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const connect = (user: string) => server.connect({ user, pass: user });

async function take<T>(feed: AsyncIterable<T>, count: number): Promise<T[]> {
  const items: T[] = [];
  for await (const item of feed) {
    items.push(item);
    if (items.length === count) break;
  }
  return items;
}

describe('followLogs()', () => {
  it('yields what one workload, or all of a namespace, print', async () => {
    const nc = await connect('b');
    await using one = followLogs(nc, { namespace: 'mine', workloadId: 'w1' });
    await using all = followLogs(nc, { namespace: 'mine' });
    nc.publish('$NEX.FEED.mine.logs.w2.stderr', 'two');
    nc.publish('$NEX.FEED.other.logs.w1.stdout', 'foreign');
    nc.publish('$NEX.FEED.mine.logs.w1.metrics', 'no stream');
    nc.publish('$NEX.FEED.mine.logs.w1.stdout', new Uint8Array([0, 255]));
    expect(await take<LogEntry>(one, 1)).toEqual([
      { namespace: 'mine', workloadId: 'w1', stream: 'stdout', data: Buffer.from([0, 255]) },
    ]);
    expect((await take<LogEntry>(all, 2)).map((entry) => entry.workloadId)).toEqual(['w2', 'w1']);
  });

  it('ends when aborted or disposed', async () => {
    const nc = await connect('b');
    const abort = new AbortController();
    const aborted = followLogs(nc, { namespace: 'mine', signal: abort.signal });
    const reading = take(aborted, 1);
    abort.abort();
    expect(await reading).toEqual([]);
    expect(() => followLogs(nc, { namespace: 'mine', signal: abort.signal })).toThrow('aborted');
    const disposed = followLogs(nc, { namespace: 'mine' });
    await disposed[Symbol.asyncDispose]();
    await disposed[Symbol.asyncDispose]();
    expect(await take(disposed, 1)).toEqual([]);
  });

  it('says when the server denies it', async () => {
    const nc = await connect('a');
    await using denied = followLogs(nc, { namespace: 'other' });
    await expect(take(denied, 1)).rejects.toMatchObject({ code: 'NEX_PERMISSION', kind: 'refused' });
  });
});

describe('followEvents()', () => {
  it('yields origin, name and body', async () => {
    const nc = await connect('b');
    await using events = followEvents(nc);
    nc.publish('$NEX.FEED.NA.events.NODESTOPPED', '{"id":"NA"}');
    nc.publish('$NEX.FEED.mine.events.ODD', 'not json');
    expect(await take<FeedEvent>(events, 2)).toEqual([
      { from: 'NA', name: 'NODESTOPPED', body: { id: 'NA' } },
      { from: 'mine', name: 'ODD', body: 'not json' },
    ]);
  });
});
