import type { NexletDefinition } from '@nex-nix/nexlet';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryNexlet } from '../memory-nexlet.ts';
import { NUID, WireBed, workload } from './bed.ts';

let bed: WireBed;
beforeAll(async () => {
  bed = await WireBed.start();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe('ADEPLOY', () => {
  it('starts a workload, once per bid', async () => {
    const id = await bed.bid();
    const reply = (await bed.json(`$NEX.SVC.default.control.ADEPLOY.${id}`, workload())) as { id: string };
    expect(reply).toEqual({ id: expect.stringMatching(NUID) as unknown, name: 'web' });
    const context = bed.nexlet.workloads.get(reply.id);
    expect(context?.runRequest).toEqual({ program: 'web' });
    expect(context?.existing).toBe(false);
    expect(Object.keys(context?.credentials ?? {})).toHaveLength(11);
    await bed.expectSilence(`$NEX.SVC.default.control.ADEPLOY.${id}`, JSON.stringify(workload()));
    await bed.stop(reply.id);
  });

  it('is silent for a bid of somebody else, even when the request is no request', async () => {
    await bed.expectSilence('$NEX.SVC.default.control.ADEPLOY.unknown', 'not json');
  });

  it('refuses by the rules of the page, and the bid stays good', async () => {
    const id = await bed.bid();
    const subject = `$NEX.SVC.default.control.ADEPLOY.${id}`;
    const expected = (code: string, header: string, error: unknown) => ({ code, header, error });
    const text = expect.any(String) as unknown;
    await bed.expectError(subject, '{}', expected('400', 'failed to unmarshal auction deploy workload request', text));
    await bed.expectError(
      subject,
      JSON.stringify(workload({ namespace: 'other' })),
      expected('403', 'namespace mismatch: default != other', 'namespace mismatch'),
    );
    await bed.expectError(
      subject,
      JSON.stringify(workload({ workload_type: 'native' })),
      expected('404', 'workload type not found', 'workload type not found'),
    );
    await bed.expectError(
      subject,
      JSON.stringify(workload({ run_request: '{' })),
      expected('400', 'failed to unmarshal start request', 'run_request is not JSON'),
    );
    await bed.expectError(
      subject,
      JSON.stringify(workload({ run_request: '{}' })),
      expected('400', 'failed to validate run request', 'field "program" is required'),
    );
    await bed.expectError(
      subject,
      JSON.stringify(workload({ workload_lifecycle: 'function' })),
      expected('400', 'failed to validate run request', 'field "workload_lifecycle" must be one of ["service","job"]'),
    );
    await bed.stop(((await bed.json(subject, workload())) as { id: string }).id);
  });

  it('lets "system" act for any namespace, but none that would become a wildcard', async () => {
    const id = await bed.deploy({ namespace: 'other' }, 'system');
    expect(bed.nexlet.workloads.get(id)?.request.namespace).toBe('other');
    await bed.stop(id, 'other');
    for (const namespace of ['*', '>', 'a.b', '']) {
      const subject = `$NEX.SVC.system.control.ADEPLOY.${await bed.bid('system')}`;
      const reply = await bed.ask(subject, JSON.stringify(workload({ namespace })));
      expect(reply.headers?.get('Nats-Service-Error-Code')).toBe('400');
    }
    expect(bed.nexlet.workloads.size).toBe(0);
  });

  it("relays a nexlet's error as it is: code 100 and a message of its own", async () => {
    const subject = `$NEX.SVC.default.control.ADEPLOY.${await bed.bid()}`;
    const reply = await bed.ask(subject, JSON.stringify(workload({ run_request: '{"program":"x","fail":true}' })));
    expect(reply.headers?.get('Nats-Service-Error-Code')).toBe('100');
    expect(reply.headers?.get('Nats-Service-Error')).toBe('told to fail');
    expect(reply.json()).toMatchObject({ id: expect.stringMatching(NUID) as unknown, name: 'web' });
  });

  it('does not hold up other requests while a start takes its time', async () => {
    const gate = Promise.withResolvers<void>();
    bed.nexlet.gate = gate.promise;
    const slow = bed.deploy({ name: 'slow' });
    await waitFor('the start to be under way', () => bed.nexlet.calls.includes('start slow'));
    bed.nexlet.gate = undefined;
    const quick = await bed.deploy({ name: 'quick' });
    expect(await bed.json('$NEX.SVC.default.control.WPING', { filter: null, namespace: 'default' })).toHaveLength(1);
    await bed.stop(quick);
    gate.resolve();
    await bed.stop(await slow);
  });
});

describe('limits', () => {
  const LIMIT = 10;
  const one = { agent_type: 'memory', auction_id: 'a', tags: null };

  /** How many of 50 deployments at the same time are taken, and how the others are refused. */
  async function deployAtOnce(small: WireBed) {
    const deployments = Array.from({ length: 50 }, async () => {
      const offer = await small.json('$NEX.SVC.default.control.AUCTION', one).catch(() => undefined);
      if (offer === undefined) return 'no bid';
      const subject = `$NEX.SVC.default.control.ADEPLOY.${(offer as { bidder_id: string }).bidder_id}`;
      const reply = await small.ask(subject, JSON.stringify(workload()));
      return reply.headers?.get('Nats-Service-Error') || 'taken';
    });
    return Promise.all(deployments);
  }

  it.each([
    [
      'max_workloads of a nexlet',
      (definition: NexletDefinition) => ({ nexlets: [{ ...definition, maxWorkloads: LIMIT }] }),
    ],
    ['the limit of the node', (definition: NexletDefinition) => ({ nexlets: [definition], maxWorkloads: LIMIT })],
  ])('%s holds under 50 deployments at once', async (_what, options) => {
    const nexlet = memoryNexlet();
    await using small = await WireBed.start(options(nexlet.definition));
    const results = await deployAtOnce(small);
    expect(results.filter((result) => result === 'taken')).toHaveLength(LIMIT);
    expect(new Set(results)).toEqual(new Set(['taken', 'workload type not found']));
    expect(nexlet.workloads.size).toBe(LIMIT);
    const reason = await small.whyNoBid({ agent_type: 'memory' });
    expect(reason).toMatch(/^is full: 10 of 10 workloads/);
    const [id = ''] = nexlet.workloads.keys();
    await small.stop(id);
    await waitFor('room for one more', () => small.bidsFor('memory'));
  });
});
