import { availableParallelism, totalmem } from 'node:os';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NUID, ScriptedNexlet, WireBed, workload } from './bed.ts';

let bed: WireBed;
beforeAll(async () => {
  bed = await WireBed.start();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe('AUCTION', () => {
  it('bids with every key, the schema as text, and what the nexlet adds', async () => {
    const offer = await bed.json('$NEX.SVC.default.control.AUCTION', {
      agent_type: 'memory',
      auction_id: 'a',
      tags: { 'nex.os': 'linux', region: 'lab' },
    });
    expect(offer).toEqual({
      bidder_id: expect.stringMatching(NUID) as unknown,
      start_request_schema: JSON.stringify(bed.nexlet.definition.startRequestSchema),
      supported_lifecycles: ['service', 'job'],
      xkey: expect.stringMatching(/^X/) as unknown,
      node_id: bed.node.id,
      node_name: 'n1',
      missing_bytes: 42,
      max_workloads: 0,
      workloads: 0,
      load: expect.toSatisfy((load: number) => load >= 0 && load <= 1) as unknown,
      memory_free: expect.any(Number) as unknown,
      memory_total: totalmem(),
      cpus: availableParallelism(),
    });
    expect((offer as { xkey: string }).xkey).not.toBe(bed.node.xkey);
  });

  it('is silent for another type or other tags, and refuses what is no request', async () => {
    await bed.expectSilence('$NEX.SVC.default.control.AUCTION', '{"agent_type":"native","auction_id":"a","tags":{}}');
    await bed.expectSilence(
      '$NEX.SVC.default.control.AUCTION',
      '{"agent_type":"memory","auction_id":"a","tags":{"region":"moon"}}',
    );
    const header = 'failed to unmarshal auction request';
    await bed.expectError('$NEX.SVC.default.control.AUCTION', '{"agent_type":"memory"}', {
      code: '400',
      header,
      error: expect.any(String) as unknown,
    });
  });
});

describe('a node that does not bid', () => {
  it('says why, where it is asked, precisely', async () => {
    const why = (request: object) => bed.whyNoBid({ agent_type: 'memory', ...request });
    expect(await why({ tags: { region: 'moon', 'nex.os': 'linux', zone: 'a' } })).toBe('lacks tag region=moon, zone=a');
    expect(await why({ agent_type: 'nix' })).toBe('has no nexlet of type "nix"');
    expect(await why({ lifecycle: 'function' })).toBe('has no nexlet of type "memory" for the lifecycle function');
  });

  it('says what is wrong with its nexlet, or what that has against it', async () => {
    const full = new ScriptedNexlet(bed, 'full', 'full');
    await full.register({ max_workloads: 10 });
    const why = (type: string) => bed.whyNoBid({ agent_type: type });
    expect(await why('full')).toBe('has a nexlet of type "full", but it is not ready yet');
    full.beat({ workload_count: 10 });
    expect(await why('full')).toBe('is full: 10 of 10 workloads of type "full"');
    full.beat({ state: 'error' });
    expect(await why('full')).toBe('has a nexlet of type "full", but it is degraded');
    full.beat();
    full.behave('hanging');
    expect(await why('full')).toBe('has a nexlet of type "full" that does not answer');
    full.behave('garbage');
    expect(await why('full')).toBe('has a nexlet of type "full" that does not answer');
    full.behave('dead');
    full.beat({ state: 'stopping' });
    expect(await why('full')).toBe('has a nexlet of type "full", but it is shutting down');
    await waitFor('the node to forget it', async () => (await why('full')) === 'has no nexlet of type "full"');
  });

  it('knows that a nexlet is dead once it could not be reached', async () => {
    const gone = new ScriptedNexlet(bed, 'gone', 'gone');
    await gone.register();
    gone.beat();
    const subject = `$NEX.SVC.default.control.ADEPLOY.${await bed.bid('default', 'gone')}`;
    const body = JSON.stringify(workload({ workload_type: 'gone' }));
    const error = 'internal server error';
    await bed.expectError(subject, body, { code: '500', header: 'failed to publish start workload request', error });
    expect(await bed.whyNoBid({ agent_type: 'gone' })).toBe('has a nexlet of type "gone", but it is offline');
    await bed.expectSilence('$NEX.SVC.default.control.AUCTION', '{"agent_type":"gone","auction_id":"a","tags":{}}');
    gone.beat();
    await bed.bid('default', 'gone');
  });
});
