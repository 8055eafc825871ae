import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { type Feed, FEED_STREAM, feedSubjects, readEvents, readLogs } from '@nex-nix/protocol';
import { describeWith, startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';

let server: TestNatsServer;
let nc: NatsConnection;

const say = (workload: string, line: string, namespace = 'ns') =>
  jetstream(nc).publish(feedSubjects.logs(namespace, workload, 'stdout'), line);

async function keep(subjects = ['$NEX.FEED.*.logs.>', '$NEX.FEED.*.events.>']): Promise<void> {
  await (await jetstreamManager(nc)).streams.add({ name: FEED_STREAM, subjects });
}

async function lines(feed: AsyncIterable<{ workloadId: string; data: Uint8Array }>): Promise<string[]> {
  const all: string[] = [];
  for await (const { workloadId, data } of feed) all.push(`${workloadId} ${Buffer.from(data).toString()}`);
  return all;
}

/** Says `count` lines at once, in turn of the workloads `even` and `odd`. */
async function sayMany(count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    nc.publish(feedSubjects.logs('ns', n % 2 === 0 ? 'even' : 'odd', 'stdout'), `line ${n}`);
  }
  const manager = await jetstreamManager(nc);
  await waitFor('the lines', async () => (await manager.streams.info(FEED_STREAM)).state.messages === count);
}

/** Reads a feed in the background. */
function listen(feed: Feed<{ data: Uint8Array }>): { seen: string[]; ended: Promise<void> } {
  const seen: string[] = [];
  const read = async () => {
    for await (const { data } of feed) seen.push(Buffer.from(data).toString());
  };
  return { seen, ended: read() };
}

describeWith(['nats-server'], 'readLogs() and readEvents()', () => {
  beforeAll(async () => {
    server = await startNatsServer();
    nc = await server.connect({ maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  });

  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    const manager = await jetstreamManager(nc);
    for (const name of await manager.streams.names().next()) await manager.streams.delete(name);
  });

  it('give the kept lines of one workload, or of a namespace, in order and with their time, and end', async () => {
    await keep();
    const before = Date.now();
    await sayMany(300);
    await say('even', 'of somebody else', 'other');

    await using one = await readLogs(nc, { namespace: 'ns', workloadId: 'even', follow: false });
    expect(await lines(one)).toEqual(Array.from({ length: 150 }, (_, n) => `even line ${2 * n}`));
    await using all = await readLogs(nc, { namespace: 'ns', follow: false });
    let count = 0;
    for await (const { time } of all) {
      count++;
      expect(time?.getTime()).toBeGreaterThan(before - 5_000);
      expect(time?.getTime()).toBeLessThan(Date.now() + 5_000);
    }
    expect(count).toBe(300);
    await using none = await readLogs(nc, { namespace: 'ns', workloadId: 'silent', follow: false });
    expect(await lines(none)).toEqual([]);
  });

  it('give the last lines of a long history without reading it from the start', async () => {
    await keep();
    await sayMany(12_000);
    const received = nc.stats().inMsgs;
    for (const [workloadId, tail] of [['odd', 3] as const, ['even', 0] as const, ['even', 1_500] as const]) {
      await using feed = await readLogs(nc, { namespace: 'ns', workloadId, tail, follow: false });
      const all = Array.from(
        { length: 6_000 },
        (_, n) => `${workloadId} line ${2 * n + (workloadId === 'odd' ? 1 : 0)}`,
      );
      expect(await lines(feed)).toEqual(tail === 0 ? [] : all.slice(-tail));
    }
    expect(nc.stats().inMsgs - received).toBeLessThan(5_000);
    await using more = await readLogs(nc, { namespace: 'ns', workloadId: 'odd', tail: 100_000, follow: false });
    expect(await lines(more)).toHaveLength(6_000);
  });

  it('give what is not older than a time, and of that the last', async () => {
    await keep();
    for (const line of ['old', 'older']) await say('w', line);
    const manager = await jetstreamManager(nc);
    const last = await manager.streams.getMessage(FEED_STREAM, {
      last_by_subj: feedSubjects.logs('ns', 'w', 'stdout'),
    });
    const since = new Date((last?.time.getTime() ?? 0) + 2);
    await waitFor('the clock', () => Date.now() > since.getTime());
    for (const line of ['new', 'newer', 'newest']) await say('w', line);

    await using recent = await readLogs(nc, { namespace: 'ns', since, follow: false });
    expect(await lines(recent)).toEqual(['w new', 'w newer', 'w newest']);
    await using two = await readLogs(nc, { namespace: 'ns', since, tail: 2, follow: false });
    expect(await lines(two)).toEqual(['w newer', 'w newest']);
    await using all = await readLogs(nc, { namespace: 'ns', since, tail: 9, follow: false });
    expect(await lines(all)).toEqual(['w new', 'w newer', 'w newest']);
    await using future = await readLogs(nc, { namespace: 'ns', since: new Date(Date.now() + 60_000), follow: false });
    expect(await lines(future)).toEqual([]);
  });

  it('end although the workload goes on printing', async () => {
    await keep();
    await sayMany(2_000);
    await using feed = await readLogs(nc, { namespace: 'ns', follow: false });
    let count = 0;
    for await (const _ of feed) {
      if (++count % 10 === 0) nc.publish(feedSubjects.logs('ns', 'even', 'stdout'), 'one more');
    }
    expect(count).toBe(2_000);
  });

  it('end although what is kept is removed meanwhile', async () => {
    await keep();
    await sayMany(2_000);
    await using feed = await readLogs(nc, { namespace: 'ns', follow: false });
    await (await jetstreamManager(nc)).streams.purge(FEED_STREAM);
    expect((await lines(feed)).length).toBeLessThan(2_000);
  });

  it('go on with new lines after the kept ones, without a gap or a repetition, also when the server restarts', async () => {
    await keep();
    for (const n of [0, 1, 2]) await say('w', `line ${n}`);
    const abort = new AbortController();
    const recent = await readLogs(nc, { namespace: 'ns', tail: 2, signal: abort.signal });
    const all = await readLogs(nc, { namespace: 'ns', signal: abort.signal });
    const fresh = await readLogs(nc, { namespace: 'ns', tail: 0, signal: abort.signal });
    const since = new Date(Date.now() - 60_000);
    const timed = await readLogs(nc, { namespace: 'ns', since, signal: abort.signal });
    const heard = [listen(recent), listen(all), listen(fresh), listen(timed)];
    for (const n of [3, 4]) await say('w', `line ${n}`);
    await server.restart();
    await waitFor('JetStream to be back', () =>
      say('w', 'line 5').then(
        () => true,
        () => false,
      ),
    );
    for (const n of [6, 7]) await say('w', `line ${n}`);
    const done = () => heard.every(({ seen }) => seen.includes('line 7'));
    await waitFor('the new lines', done, { timeout: 20_000 });
    abort.abort();
    await Promise.all(heard.map(({ ended }) => ended));
    const from = (first: number) => Array.from({ length: 8 - first }, (_, n) => `line ${first + n}`);
    // A publish that was repeated after the restart is in the stream twice.
    const once = ({ seen }: { seen: string[] }) =>
      seen.filter((line, index) => line !== seen[index - 1] || line !== 'line 5');
    expect(heard.map(once)).toEqual([from(1), from(0), from(3), from(0)]);
  });

  it('give kept and new events, of one origin and name where that is asked for', async () => {
    await keep();
    const js = jetstream(nc);
    await js.publish(feedSubjects.events('NA', 'NODESTARTED'), '{"id":"NA"}');
    await js.publish(feedSubjects.events('ns', 'WORKLOADSTARTED'), '{"id":"w1"}');
    await js.publish(feedSubjects.events('ns', 'WORKLOADSTOPPED'), 'no json');
    await using stopped = await readEvents(nc, { from: 'ns', name: 'WORKLOADSTOPPED', follow: false });
    const [event] = await Array.fromAsync(stopped);
    expect(event).toMatchObject({ from: 'ns', name: 'WORKLOADSTOPPED', body: 'no json' });
    expect(event?.time).toBeInstanceOf(Date);
    await using all = await readEvents(nc, { tail: 2 });
    const names: string[] = [];
    for await (const { name } of all) {
      if (names.push(name) === 2) await js.publish(feedSubjects.events('NA', 'NODESTOPPED'), '{"id":"NA"}');
      if (names.length === 3) break;
    }
    expect(names).toEqual(['WORKLOADSTARTED', 'WORKLOADSTOPPED', 'NODESTOPPED']);
  });

  it('give only what is new where no stream keeps it', async () => {
    await using nothing = await readLogs(nc, { namespace: 'ns', follow: false });
    expect(await lines(nothing)).toEqual([]);
    await keep(['$NEX.FEED.*.logs.>']);
    await using events = await readEvents(nc, { from: 'ns', tail: 5 });
    await nc.flush();
    nc.publish(feedSubjects.events('ns', 'ANY'), '{}');
    for await (const event of events) {
      expect(event).toEqual({ from: 'ns', name: 'ANY', body: {}, time: undefined });
      break;
    }
  });

  it('do so too where JetStream is off', async () => {
    await using plain = await startNatsServer({ jetstream: false });
    const other = await plain.connect();
    await using feed = await readLogs(other, { namespace: 'ns', since: new Date(0) });
    await other.flush();
    other.publish(feedSubjects.logs('ns', 'w', 'stderr'), 'live');
    for await (const entry of feed) {
      expect(entry).toMatchObject({ namespace: 'ns', workloadId: 'w', stream: 'stderr', time: undefined });
      break;
    }
  });
});
