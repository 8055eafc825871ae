import { jetstreamManager } from '@nats-io/jetstream';
import { FEED_STREAM, readLogs } from '@nex-nix/protocol';
import { describeWith, startNatsServer } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';

/** What the guide "Trust and keys" gives whoever reads what is kept of a namespace. */
const READER = [
  '$JS.API.INFO',
  `$JS.API.STREAM.INFO.${FEED_STREAM}`,
  `$JS.API.CONSUMER.*.${FEED_STREAM}.>`,
  `$JS.API.CONSUMER.MSG.NEXT.${FEED_STREAM}.>`,
];

const user = (name: string, publish: readonly string[]): string =>
  `{ user: ${name}, password: x, permissions: { publish: ${JSON.stringify(publish)}, subscribe: ["_INBOX.>", "$NEX.FEED.ns.>"] } }`;

describeWith(['nats-server'], 'kept logs', () => {
  it('are read with few rights; without them the error names the subject that is denied', async () => {
    await using server = await startNatsServer({
      config: `authorization: { users: [{ user: all, password: x }, ${user('reader', READER)}, ${user('nobody', ['nothing'])}] }`,
    });
    const all = await server.connect({ user: 'all', pass: 'x' });
    await (await jetstreamManager(all)).streams.add({ name: FEED_STREAM, subjects: ['$NEX.FEED.>'] });
    await all.request('$NEX.FEED.ns.logs.w.stdout', 'kept');
    const read = async (name: string): Promise<string[]> => {
      const nc = await server.connect({ user: name, pass: 'x' });
      const lines: string[] = [];
      for await (const { data } of await readLogs(nc, { namespace: 'ns', follow: false }))
        lines.push(Buffer.from(data).toString());
      return lines;
    };
    expect(await read('reader')).toEqual(['kept']);
    await expect(read('nobody')).rejects.toMatchObject({
      code: 'NEX_PERMISSION',
      message: 'Cannot use subject "$JS.API.INFO": the NATS server denies publish to this user',
    });
  });
});
