import { jetstreamManager } from '@nats-io/jetstream';
import { headers, type NatsConnection } from '@nats-io/nats-core';
import { describeWith, startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FEED_STREAM, feedSubjects, formatLogId, LastLogs, LOG_ID_HEADER, type LogStream } from '../src/index.ts';

describeWith(['nats-server'], 'LastLogs', () => {
  let server: TestNatsServer;
  let nc: NatsConnection;

  beforeAll(async () => {
    server = await startNatsServer();
    nc = await server.connect();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const last = async (stream: LogStream = 'stdout', workloadId = 'w1') =>
    (await LastLogs.open(nc))?.of('default', workloadId, stream);

  const publish = async (
    position: number | undefined,
    { stream = 'stdout', workload = 'w1' }: { stream?: LogStream; workload?: string } = {},
  ) => {
    const head = headers();
    if (position !== undefined) head.set(LOG_ID_HEADER, formatLogId({ run: 'r-1', stream, position, piece: 1 }));
    await nc.request(feedSubjects.logs('default', workload, stream), 'text', { headers: head, timeout: 5_000 });
  };

  it('are not there, and say so at once, where there is no stream or it does not allow direct gets', async () => {
    const began = performance.now();
    expect(await last()).toBeUndefined();
    const manager = await jetstreamManager(nc);
    await manager.streams.add({ name: FEED_STREAM, subjects: ['$NEX.FEED.*.logs.>'], allow_direct: false });
    await publish(5);
    expect(await last()).toBeUndefined();
    await manager.streams.delete(FEED_STREAM);
    expect(performance.now() - began).toBeLessThan(1_500);
  });

  it('name that of the last message of a workload and stream, while the stream has it', async () => {
    const manager = await jetstreamManager(nc);
    const subjects = ['$NEX.FEED.*.logs.>'];
    await manager.streams.add({ name: FEED_STREAM, subjects, allow_direct: true, max_msgs_per_subject: 2 });
    for (const position of [5, 9, 14]) await publish(position);
    await publish(7, { stream: 'stderr' });
    await publish(99, { workload: 'w2' });
    expect(await last()).toEqual({ run: 'r-1', stream: 'stdout', position: 14, piece: 1 });
    expect(await last('stderr')).toEqual({ run: 'r-1', stream: 'stderr', position: 7, piece: 1 });
    expect(await last('stdout', 'w3')).toBeUndefined();
    await publish(undefined);
    expect(await last()).toBeUndefined();
    await manager.streams.purge(FEED_STREAM);
    expect(await last('stderr')).toBeUndefined();
    await manager.streams.delete(FEED_STREAM);
  });

  it('say nothing when an answer does not come in time, of the stream or of its message', async () => {
    await using deaf = await startNatsServer({ jetstream: false });
    const other = await deaf.connect();
    expect(await LastLogs.open(other)).toBeUndefined();
    other.subscribe('$JS.API.>', {
      callback: (_error, msg) => {
        if (answers && msg.subject.includes('INFO')) msg.respond(JSON.stringify({ config: { allow_direct: true } }));
      },
    });
    let answers = false;
    expect(await LastLogs.open(other, { timeout: 100 })).toBeUndefined();
    answers = true;
    const logs = await LastLogs.open(other, { timeout: 100 });
    expect(logs).toBeDefined();
    expect(await logs?.of('default', 'w1', 'stdout')).toBeUndefined();
  });
});
