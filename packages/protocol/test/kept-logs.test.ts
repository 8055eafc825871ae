import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { FEED_STREAM, feedSubjects, readLogs } from '@nex-nix/protocol';
import { describeWith, startNatsServer, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';

const say = (nc: NatsConnection, workload: string, line: string, namespace = 'ns') =>
  jetstream(nc).publish(feedSubjects.logs(namespace, workload, 'stdout'), line);

async function keepLogs(nc: NatsConnection): Promise<void> {
  await (await jetstreamManager(nc)).streams.add({ name: FEED_STREAM, subjects: ['$NEX.FEED.*.logs.>'] });
}

async function lines(feed: AsyncIterable<{ workloadId: string; data: Uint8Array }>): Promise<string[]> {
  const all: string[] = [];
  for await (const { workloadId, data } of feed) all.push(`${workloadId} ${Buffer.from(data).toString()}`);
  return all;
}

describeWith(['nats-server'], 'readLogs()', () => {
  it('gives the kept lines of one workload, or of a namespace, in order, and ends', async () => {
    await using server = await startNatsServer();
    const nc = await server.connect();
    await keepLogs(nc);
    for (let n = 0; n < 300; n++) await say(nc, n % 2 === 0 ? 'even' : 'odd', `line ${n}`);
    await say(nc, 'even', 'of somebody else', 'other');

    await using one = await readLogs(nc, { namespace: 'ns', workloadId: 'even', follow: false });
    expect(await lines(one)).toEqual(Array.from({ length: 150 }, (_, n) => `even line ${2 * n}`));
    await using all = await readLogs(nc, { namespace: 'ns', follow: false });
    expect(await lines(all)).toHaveLength(300);
    await using none = await readLogs(nc, { namespace: 'ns', workloadId: 'silent', follow: false });
    expect(await lines(none)).toEqual([]);
  });

  it('goes on with new lines after the kept ones, until it is aborted', async () => {
    await using server = await startNatsServer();
    const nc = await server.connect();
    await keepLogs(nc);
    await say(nc, 'w', 'kept');
    const abort = new AbortController();
    await using feed = await readLogs(nc, { namespace: 'ns', signal: abort.signal });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { data } of feed) seen.push(Buffer.from(data).toString());
    })();
    await waitFor('the kept line', () => seen.includes('kept'));
    await say(nc, 'w', 'new');
    await waitFor('the new line', () => seen.includes('new'));
    abort.abort();
    await reading;
    expect(seen).toEqual(['kept', 'new']);
  });

  it.each([{ jetstream: true }, { jetstream: false }])(
    'without a stream ($jetstream): only new lines',
    async (options) => {
      await using server = await startNatsServer(options);
      const nc = await server.connect();
      await using nothing = await readLogs(nc, { namespace: 'ns', follow: false });
      expect(await lines(nothing)).toEqual([]);

      await using feed = await readLogs(nc, { namespace: 'ns' });
      await nc.flush();
      nc.publish(feedSubjects.logs('ns', 'w', 'stderr'), 'live');
      for await (const entry of feed) {
        expect(entry).toMatchObject({ namespace: 'ns', workloadId: 'w', stream: 'stderr' });
        break;
      }
    },
  );
});
