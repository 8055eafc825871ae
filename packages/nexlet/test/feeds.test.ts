// What nexlets publish, while the NATS server goes away and comes back.
import { followLogs, natsConnectionData } from '@nex-nix/protocol';
import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectWith, createFeeds } from '../src/index.ts';
import { feedsThrough } from '../src/feeds.ts';
import { silentLogger } from '../src/logger.ts';
import { Outbox } from '../src/outbox.ts';

let server: TestNatsServer;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const connect = () => connectWith(natsConnectionData({ nats_servers: [server.url] }));

/** Lines, first come first, as a listener that reconnects hears them. */
async function listen(nc: NatsConnection, subject: string): Promise<Msg[]> {
  const heard: Msg[] = [];
  nc.subscribe(subject, { callback: (_error, msg) => void heard.push(msg) });
  await nc.flush();
  return heard;
}

/** A message as an outbox takes it. */
const line = (text: string) => ({ subject: 'lines', data: Buffer.from(text) });

async function makeLogStream(nc: NatsConnection): Promise<void> {
  const stream = {
    name: 'LOGS',
    subjects: ['$NEX.FEED.*.logs.>'],
    retention: 'limits',
    storage: 'file',
    num_replicas: 1,
  };
  await nc.request(
    '$JS.API.STREAM.CREATE.LOGS',
    JSON.stringify({ ...stream, max_consumers: -1, max_msgs: -1, max_bytes: -1, max_age: 0, discard: 'old' }),
  );
}

/** What the stream has kept, first come first. */
async function storedLines(nc: NatsConnection): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const reply = await nc.request('$JS.API.STREAM.MSG.GET.LOGS', JSON.stringify({ seq: lines.length + 1 }));
    const { message } = reply.json<{ message?: { data: string } }>();
    if (message === undefined) return lines;
    lines.push(Buffer.from(message.data, 'base64').toString());
  }
}

describe('feeds', () => {
  it('carry logs, metrics, events and ingress in the form of Nex 0.4', async () => {
    await using nc = await connect();
    await using listener = await connect();
    const heard = await listen(listener, '$NEX.FEED.>');
    const feeds = createFeeds(nc, 'a1');
    feeds.log('default', 'w1', 'stderr', 'line');
    feeds.metric('default', 'w1', '{"cpu":1}');
    feeds.event('default', 'WORKLOADSTARTED', { id: 'w1' });
    feeds.ingress('w1', '10.0.0.2:8080');
    feeds.ingress('w1', undefined);
    await feeds.flushed();
    await waitFor('all of them', () => heard.length === 5);
    expect(heard.map((msg) => [msg.subject, msg.string()])).toEqual([
      ['$NEX.FEED.default.logs.w1.stderr', 'line'],
      ['$NEX.FEED.default.metrics.w1', '{"cpu":1}'],
      ['$NEX.FEED.default.events.WORKLOADSTARTED', '{"id":"w1"}'],
      ['$NEX.FEED.a1.events.INGRESS', '{"command":"add","upstream":"10.0.0.2:8080","workload_id":"w1"}'],
      ['$NEX.FEED.a1.events.INGRESS', '{"command":"remove","upstream":"","workload_id":"w1"}'],
    ]);
    for (const msg of heard.slice(0, 2)) {
      expect(msg.headers?.get('synadia.com/namespace')).toBe('default');
      expect(msg.headers?.has('synadia.com/group')).toBe(true);
    }
    expect(heard[2]?.headers).toBeUndefined();
  });

  it('keep what is published while there is no server, in order, and say when it has it', async () => {
    await using keeping = await startNatsServer();
    const { url } = keeping;
    await using nc = await connectWith(natsConnectionData({ nats_servers: [url] }));
    await makeLogStream(nc);
    const feeds = createFeeds(nc);
    process.kill(keeping.pid, 'SIGSTOP');
    // The socket takes these, and nobody will ever read them.
    for (let line = 0; line < 100; line++) feeds.log('default', 'w1', 'stdout', `${line}`);
    let isFlushed = false;
    const flushing = feeds.flushed().finally(() => (isFlushed = true));
    const restarted = keeping.restart('SIGKILL');
    for (let line = 100; line < 200; line++) feeds.log('default', 'w1', 'stdout', `${line}`);
    expect(isFlushed).toBe(false);
    await restarted;
    await flushing;
    await feeds.flushed();
    const lines = await storedLines(nc);
    expect(lines.filter((line, index) => lines.indexOf(line) === index)).toEqual(
      Array.from({ length: 200 }, (_, line) => `${line}`),
    );
  });

  it('name lines by their place: a stream keeps once what is published twice, a listener hears it once', async () => {
    await using keeping = await startNatsServer();
    await using nc = await connectWith(natsConnectionData({ nats_servers: [keeping.url] }));
    await makeLogStream(nc);
    await using heard = followLogs(nc, { namespace: 'default' });
    await nc.flush();
    const feeds = createFeeds(nc);
    const long = 'x'.repeat(40_000);
    const lines = (run: string) => {
      feeds.log('default', 'w1', 'stdout', 'one', { place: { run, position: 4 } });
      feeds.log('default', 'w1', 'stdout', long, { place: { run, position: 40_005 } });
      feeds.log('default', 'w1', 'stderr', 'two', { place: { run, position: 4 } });
    };
    lines('run-1');
    lines('run-1');
    lines('run-2');
    feeds.log('default', 'w1', 'stdout', 'end');
    await feeds.flushed();
    const once = ['one', long.slice(0, 32_768), long.slice(32_768), 'two'];
    expect(await storedLines(nc)).toEqual([...once, ...once, 'end']);
    const texts: string[] = [];
    for await (const { data } of heard) {
      if (texts.push(Buffer.from(data).toString()) && texts.at(-1) === 'end') break;
    }
    expect(texts).toEqual([...once, ...once, 'end']);
  });

  it('send nothing more before what was confirmed could be written down', async () => {
    await using nc = await connect();
    const steps: string[] = [];
    const { publish } = nc;
    nc.publish = (subject, payload, options) => {
      steps.push(`sent ${Buffer.from(payload ?? '').toString()}`);
      publish.call(nc, subject, payload, options);
    };
    const feeds = createFeeds(nc);
    const log = (text: string, then?: () => void) =>
      feeds.log('default', 'w1', 'stdout', text, {
        onConfirmed: () => {
          queueMicrotask(() => steps.push(`noted ${text}`));
          then?.();
        },
      });
    const third = Promise.withResolvers<void>();
    log('one', () => log('three', third.resolve));
    log('two');
    await feeds.flushed();
    await third.promise;
    await feeds.flushed();
    expect(steps).toEqual(['sent one', 'sent two', 'noted one', 'noted two', 'sent three', 'noted three']);
  });

  it('send a limited amount before it is confirmed', async () => {
    await using nc = await connect();
    let sent = 0;
    let most = 0;
    const { publish } = nc;
    nc.publish = (subject, payload, options) => {
      most = Math.max(most, ++sent);
      publish.call(nc, subject, payload, options);
    };
    const feeds = createFeeds(nc);
    const confirmed = { onConfirmed: () => void sent-- };
    for (let count = 0; count < 100; count++) feeds.log('default', 'w1', 'stdout', Buffer.alloc(30_000), confirmed);
    await feeds.flushed();
    expect({ sent, most }).toEqual({ sent: 0, most: 8 });
  });

  it('take a line in pieces as a whole or not at all, and go on behind pieces that are out', async () => {
    await using listener = await connect();
    const heard = await listen(listener, '$NEX.FEED.default.logs.w1.>');
    await using nc = await connect();
    const outbox = new Outbox({ logger: silentLogger, capacity: 50_000 });
    const feeds = feedsThrough(outbox, () => 'a1');
    const long = `${'x'.repeat(32_768)}rest`;
    expect(feeds.log('default', 'w1', 'stdout', long, { piecesOut: 1 })).toBe(true);
    expect(feeds.log('default', 'w1', 'stdout', long)).toBe(true);
    expect(feeds.log('default', 'w1', 'stdout', long)).toBe(false);
    outbox.attach(nc);
    await outbox.flushed();
    await listener.flush();
    expect(heard.map((msg) => msg.data.length)).toEqual([4, 32_768, 4]);
  });

  it('go on over the next connection when the one they had is closed', async () => {
    await using listener = await connect();
    const heard = await listen(listener, 'lines');
    const outbox = new Outbox({ logger: silentLogger });
    outbox.publish(line('before the first'));
    const first = await connect();
    outbox.attach(first);
    await outbox.flushed();
    await first.close();
    outbox.publish(line('between'));
    outbox.publish(line('the two'));
    const flushed = outbox.flushed();
    await using second = await connect();
    outbox.attach(second);
    await flushed;
    await listener.flush();
    expect(heard.map((msg) => msg.string())).toEqual(['before the first', 'between', 'the two']);
  });

  it('take no more than their capacity without a server, and say so', async () => {
    const outbox = new Outbox({ logger: silentLogger, capacity: 1_000 });
    const payload = line('x'.repeat(100));
    expect([1, 2, 3, 4].map(() => outbox.publish(payload))).toEqual([true, true, true, false]);
    await using nc = await connect();
    outbox.attach(nc);
    await outbox.flushed();
    expect(outbox.publish(payload)).toBe(true);
  });

  it('do not promise what a closed connection cannot keep', async () => {
    const nc = await connect();
    const feeds = createFeeds(nc);
    process.kill(server.pid, 'SIGSTOP');
    try {
      feeds.log('default', 'w1', 'stdout', 'never heard');
      const flushed = expect(feeds.flushed()).rejects.toMatchObject({ code: 'NEXLET_FEED_CLOSED' });
      await nc.close();
      await flushed;
      expect(feeds.log('default', 'w1', 'stdout', 'too late')).toBe(false);
    } finally {
      process.kill(server.pid, 'SIGCONT');
    }
  });
});
