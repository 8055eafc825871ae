import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gather, requestOne } from '../src/index.ts';

let server: TestNatsServer;
let nc: NatsConnection;

beforeAll(async () => {
  server = await startNatsServer({ jetstream: false });
  nc = await server.connect();
  const peer = await server.connect();
  peer.subscribe('many', {
    callback: (_error, msg) => {
      for (let n = 0; n < 10_500; n++) msg.respond('x');
    },
  });
  peer.subscribe('slow', { callback: (_error, msg) => void setTimeout(() => msg.respond('late'), 200) });
  peer.subscribe('quick', { callback: (_error, msg) => void msg.respond('now') });
  await peer.flush();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe('gather()', () => {
  it('does not take replies without end', async () => {
    const { replies } = await gather(nc, 'many', '', { timeout: 5_000 });
    expect(replies).toHaveLength(10_000);
    // What came too much does no harm to the next question.
    expect((await requestOne(nc, 'quick', '', { timeout: 1_000 })).reply?.string()).toBe('now');
  });

  it('waits for what is expected, be it known only later', async () => {
    const expected = Promise.resolve(1);
    expect((await gather(nc, 'slow', '', { timeout: 2_000, stall: 10, expected })).replies).toHaveLength(1);
    expect((await gather(nc, 'slow', '', { timeout: 50 })).replies).toEqual([]);
  });

  it('ends at once when nobody will answer', async () => {
    const started = Date.now();
    expect(await gather(nc, 'nobody', '', { timeout: 5_000 })).toEqual({ replies: [], noResponders: true });
    const none = await gather(nc, 'slow', '', { timeout: 5_000, expected: Promise.resolve(0) });
    expect(none).toEqual({ replies: [], noResponders: false });
    expect(Date.now() - started).toBeLessThan(1_000);
  });
});
