import { jetstream, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { Empty, headers, type NatsConnection, NoRespondersError } from '@nats-io/nats-core';
import { storePathHash } from '@nex-nix/nix';
import { describeWith, startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { answersBatches, getBatch, getEach } from '../src/jetstream/direct-get.ts';
import { openJetStream } from '../src/jetstream/jetstream.ts';
import { lastMessages } from '../src/jetstream/last-messages.ts';
import { addClosure, noise, startCache } from './fixture.ts';

const STREAM = 'NUMBERS';
const TASK = { action: 'read numbers' };

interface Numbers extends AsyncDisposable {
  readonly server: TestNatsServer;
  readonly nc: NatsConnection;
  readonly jsm: JetStreamManager;
}

/** A server with a stream that keeps the last message of each subject `n.<number>`. */
async function startNumbers(): Promise<Numbers> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer());
  const nc = await server.connect({ reconnectTimeWait: 50 });
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name: STREAM, subjects: ['n.>'], max_msgs_per_subject: 1, allow_direct: true });
  const owned = stack.move();
  return { server, nc, jsm, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const subjectsUpTo = (count: number) => Array.from({ length: count }, (_, i) => `n.${i}`);

async function publishAll(nc: NatsConnection, subjects: readonly string[], body: (i: number) => string | Uint8Array) {
  const js = jetstream(nc);
  for (let at = 0; at < subjects.length; at += 256) {
    await Promise.all(subjects.slice(at, at + 256).map(async (subject, i) => js.publish(subject, body(at + i))));
  }
}

/** The same connection, but to a server that looks as if it were of version 2.9. */
function asOld(nc: NatsConnection): NatsConnection {
  return new Proxy(nc, {
    get(target, name) {
      if (name === 'info') return { ...target.info, version: '2.9.10', api_lvl: undefined };
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('answersBatches()', () => {
  const answers = (info: object | undefined) => answersBatches({ info } as Pick<NatsConnection, 'info'>);

  it('goes by the API level where the server tells it, otherwise by the version', () => {
    expect(answers({ version: '2.15.1', api_lvl: 5 })).toBe(true);
    expect(answers({ version: '2.11.0', api_lvl: 1 })).toBe(true);
    expect(answers({ version: '3.0.0', api_lvl: 0 })).toBe(false);
    for (const version of ['2.11.0', 'v2.11.3', '2.12.0-RC.2', '3.0.0', '10.0.1']) {
      expect(answers({ version }), version).toBe(true);
    }
    for (const version of ['2.9.10', '2.10.27', '2.2.11', '1.11.0', '', 'unknown']) {
      expect(answers({ version }), version).toBe(false);
    }
    expect(answers(undefined)).toBe(false);
  });
});

describeWith(['nats-server'], 'lastMessages()', () => {
  it.each(['as it is', 'as if it were old'])('finds thousands, and leaves out what is not there: %s', async (how) => {
    await using test = await startNumbers();
    const nc = how === 'as it is' ? test.nc : asOld(test.nc);
    const js = await openJetStream(nc);
    const subjects = subjectsUpTo(2500);
    await publishAll(test.nc, subjects.slice(0, 2400), (i) => `first ${i}`);
    await publishAll(test.nc, subjects.slice(100, 200), (i) => `second ${i + 100}`);
    const gone = await test.jsm.direct.getMessage(STREAM, { last_by_subj: 'n.7' });
    await test.jsm.streams.deleteMessage(STREAM, gone?.seq ?? 0);
    const found = await lastMessages(js, { stream: STREAM, subjects: [...subjects, 'n.1', 'other.1'] }, TASK);
    expect(found.size).toBe(2399);
    for (const [i, subject] of subjects.entries()) {
      const message = found.get(subject);
      const text = message === undefined ? undefined : Buffer.from(message.data).toString();
      expect(text).toBe(i === 7 || i >= 2400 ? undefined : `${i >= 100 && i < 200 ? 'second' : 'first'} ${i}`);
    }
    expect(found.get('n.1')?.seq).toBe(2);
    expect(await lastMessages(js, { stream: STREAM, subjects: [] }, TASK)).toEqual(new Map());
  });

  it.each(['as it is', 'as if it were old'])('keeps empty messages and headers apart from the end: %s', async (how) => {
    await using test = await startNumbers();
    const js = await openJetStream(how === 'as it is' ? test.nc : asOld(test.nc));
    const head = headers();
    head.set('KV-Operation', 'DEL');
    for (const subject of ['n.1', 'n.2']) await jetstream(test.nc).publish(subject, Empty, { headers: head });
    await jetstream(test.nc).publish('n.3', 'three');
    const found = await lastMessages(js, { stream: STREAM, subjects: ['n.1', 'n.2', 'n.3'] }, TASK);
    expect([...found.keys()].toSorted()).toEqual(['n.1', 'n.2', 'n.3']);
    expect(found.get('n.2')?.headers.get('KV-Operation')).toBe('DEL');
    expect(found.get('n.2')?.data).toHaveLength(0);
  });

  it('asks again for what the server left out because the answer became too large', async () => {
    await using test = await startNumbers();
    const js = await openJetStream(test.nc);
    const subjects = subjectsUpTo(40);
    const body = noise(500_000);
    await publishAll(test.nc, subjects, () => body);
    if (answersBatches(test.nc)) {
      expect((await getBatch(js, { stream: STREAM, subjects })).length).toBeLessThan(40);
    }
    const found = await lastMessages(js, { stream: STREAM, subjects }, TASK);
    expect(found.size).toBe(40);
    for (const { data } of found.values()) expect(Buffer.compare(data, body)).toBe(0);
  });

  it('finds all on a server that does not know the request for several, as one of a cluster may be', async () => {
    await using test = await startNumbers();
    const subjects = subjectsUpTo(10);
    await publishAll(test.nc, subjects, (i) => `${i}`);
    // The connection claims that it leads to a new server.
    const nc = new Proxy(test.nc, {
      get(target, name) {
        if (name === 'info') return { ...target.info, api_lvl: 1 };
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const js = await openJetStream(nc);
    expect(await getBatch(js, { stream: STREAM, subjects })).toHaveLength(answersBatches(test.nc) ? 10 : 0);
    expect((await lastMessages(js, { stream: STREAM, subjects }, TASK)).size).toBe(10);
  });

  it('goes on when the server is killed in the middle and comes back', async () => {
    await using test = await startNumbers();
    const js = await openJetStream(test.nc);
    const subjects = subjectsUpTo(2000);
    await publishAll(test.nc, subjects, (i) => `${i}`);
    const restarted = test.server.restart('SIGKILL');
    const found = await lastMessages(js, { stream: STREAM, subjects }, TASK);
    await restarted;
    expect(found.size).toBe(2000);
  });

  it('can be given up, and says when nobody listens', async () => {
    await using test = await startNumbers();
    const js = await openJetStream(test.nc);
    const controller = new AbortController();
    const other = { stream: 'OTHER', subjects: ['a', 'b'] };
    const waiting = lastMessages(js, other, { ...TASK, signal: controller.signal });
    controller.abort(new Error('waited long enough'));
    await expect(waiting).rejects.toThrow('waited long enough');
    await using without = await startNatsServer({ jetstream: false });
    const nobody = await openJetStream(await without.connect());
    for (const get of [getEach, getBatch]) {
      await expect(get(nobody, other)).rejects.toBeInstanceOf(NoRespondersError);
    }
  });
});

describeWith(['nats-server'], 'a closure', () => {
  it('of more paths than are looked up together is complete, in order, and names what is missing', async () => {
    await using test = await startCache();
    const { app } = await addClosure(test.source);
    const leaves = [];
    for (let i = 0; i < 300; i++) leaves.push(await test.source.add(`leaf-${i}`, { file: `leaf ${i}` }));
    const references = [app, ...leaves].map(({ storePath }) => storePath);
    const top = await test.source.add('top-1', { file: 'top' }, { references });
    await test.cache.push(test.source, [top.storePath]);
    const closure = await test.cache.closure([top.storePath]);
    expect(closure.map(({ storePath }) => storePath).toSorted()).toEqual(
      [...references, top.storePath, ...(await test.cache.closure([app.storePath])).map(({ storePath }) => storePath)]
        .filter((path, i, all) => all.indexOf(path) === i)
        .toSorted(),
    );
    expect((await test.cache.push(test.source, [top.storePath])).paths).toMatchObject({ pushed: 0, present: 304 });
    const jsm = await jetstreamManager(test.nc);
    await jsm.streams.purge('KV_nix_narinfo', { filter: `$KV.nix_narinfo.${storePathHash(app.storePath)}` });
    await expect(test.cache.closure([top.storePath])).rejects.toMatchObject({
      code: 'CACHE_PATH_NOT_FOUND',
      message: expect.stringContaining(`which "${top.storePath}" refers to`),
    });
  });
});
