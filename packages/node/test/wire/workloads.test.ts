import { TimeoutError } from '@nats-io/nats-core';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { anyText, ScriptedNexlet, WireBed, workload } from './bed.ts';

let bed: WireBed;
beforeAll(async () => {
  bed = await WireBed.start();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe('WPING', () => {
  it('lists a namespace, "system" lists all; by id or name', async () => {
    const wping = (namespace: string, filter: string[] | null = null) =>
      bed.json(`$NEX.SVC.${namespace}.control.WPING`, { filter, namespace }) as Promise<{ id: string }[]>;
    expect(await wping('system')).toEqual([]);
    const one = await bed.deploy({ name: 'one' });
    const two = await bed.deploy({ name: 'two', namespace: 'other' }, 'other');
    expect(await wping('default')).toEqual([
      {
        id: one,
        name: 'one',
        namespace: 'default',
        runtime: '--',
        start_time: '2026-05-01T10:01:00Z',
        tags: {},
        metadata: { node_id: bed.node.id },
        workload_lifecycle: 'service',
        workload_state: 'running',
        workload_type: 'memory',
      },
    ]);
    expect((await wping('system')).map(({ id }) => id).sort()).toEqual([one, two].sort());
    expect(await wping('system', [one])).toHaveLength(1);
    expect(await wping('system', ['two'])).toHaveLength(1);
    expect(await wping('default', ['two'])).toEqual([]);
    await bed.expectError('$NEX.SVC.default.control.WPING', '{"filter":null,"namespace":"other"}', {
      code: '403',
      header: 'namespace mismatch: default != other',
      error: 'namespace mismatch',
    });
    await bed.expectError('$NEX.SVC.default.control.WPING', '', {
      code: '400',
      header: 'failed to unmarshal ping request',
      error: expect.any(String) as unknown,
    });
    await bed.stop(one);
    await bed.stop(two, 'other');
  });
});

describe('UNDEPLOY', () => {
  it('stops a workload; what is not here is "not found" and no error, in good time', async () => {
    const id = await bed.deploy();
    expect(await bed.stop(id)).toEqual({ id, message: '', stopped: true, workload_type: 'memory' });
    const started = Date.now();
    expect(await bed.stop(id)).toEqual({ id, message: 'workload not found', stopped: false, workload_type: '' });
    expect(Date.now() - started).toBeLessThan(1_000);
  });

  it("does not touch another namespace's workload", async () => {
    const id = await bed.deploy();
    expect(await bed.stop(id, 'other')).toMatchObject({ stopped: false, message: 'workload not found' });
    expect(bed.nexlet.workloads.has(id)).toBe(true);
    await bed.expectError(`$NEX.SVC.other.control.UNDEPLOY.${id}`, '{"namespace":"default"}', {
      code: '403',
      header: 'namespace mismatch: other != default',
      error: 'namespace mismatch',
    });
    await bed.stop(id);
  });

  it('answers only when the workload has stopped, and until then keeps clients waiting that give up after 2 s', async () => {
    const id = await bed.deploy();
    const gate = Promise.withResolvers<void>();
    bed.nexlet.gate = gate.promise;
    const replies: { at: number; body: unknown }[] = [];
    const subscription = bed.nc.subscribe(`_INBOX.stop.${id}`, {
      callback: (_error, msg) => void replies.push({ at: Date.now(), body: msg.json() }),
    });
    const started = Date.now();
    bed.nc.publish(`$NEX.SVC.default.control.UNDEPLOY.${id}`, '{"namespace":"default"}', {
      reply: `_INBOX.stop.${id}`,
    });
    await waitFor('the second interim reply', () => replies.length === 2);
    gate.resolve();
    await waitFor('the answer', () => replies.length === 3);
    subscription.unsubscribe();
    bed.nexlet.gate = undefined;
    const stopping = { id, message: 'workload is stopping', stopped: false, workload_type: '' };
    const stopped = { id, message: '', stopped: true, workload_type: 'memory' };
    expect(replies.map(({ body }) => body)).toEqual([stopping, stopping, stopped]);
    const pauses = replies.map(({ at }, index) => at - (replies[index - 1]?.at ?? started));
    expect(Math.max(...pauses)).toBeLessThan(2_000);
  });
});

describe('CLONE', () => {
  it('gives the start request to its namespace and to "system", silence to others', async () => {
    const id = await bed.deploy();
    const clone = { namespace: 'default', new_target_xkey: 'XC' };
    expect(await bed.json(`$NEX.SVC.default.control.CLONE.${id}`, clone)).toEqual({ ...workload(), tags: {} });
    expect(await bed.json(`$NEX.SVC.system.control.CLONE.${id}`, clone)).toMatchObject({ namespace: 'default' });
    // Longer than the node waits for its nexlets.
    const options = { timeout: 1_400 };
    const foreign = bed.nc.request(`$NEX.SVC.other.control.CLONE.${id}`, JSON.stringify(clone), options);
    const unknown = bed.nc.request('$NEX.SVC.default.control.CLONE.unknown', JSON.stringify(clone), options);
    await Promise.all([foreign, unknown].map((asked) => expect(asked).rejects.toThrow(TimeoutError)));
    await bed.stop(id);
  });
});

describe('bad nexlets', () => {
  it.each(['dead', 'hanging', 'garbage'] as const)(
    'a %s one delays nobody by more than 1.5 s, and spoils nothing',
    async (how) => {
      const id = await bed.deploy({ name: how });
      const nexlet = new ScriptedNexlet(bed, how, how);
      nexlet.behave(how);
      await nexlet.register();
      nexlet.beat();
      const clone = { namespace: 'default', new_target_xkey: 'XC' };
      const timed = async <T>(asked: Promise<T>): Promise<T> => {
        const started = Date.now();
        const answer = await asked;
        expect(Date.now() - started).toBeLessThan(1_500);
        return answer;
      };
      const [listed, cloned, unknown] = await Promise.all([
        timed(bed.json('$NEX.SVC.default.control.WPING', { filter: null, namespace: 'default' })),
        timed(bed.json(`$NEX.SVC.default.control.CLONE.${id}`, clone)),
        timed(bed.stop('unknown')),
      ]);
      expect(listed).toMatchObject([{ id, name: how }]);
      expect(cloned).toMatchObject({ name: how });
      expect(unknown).toEqual({ id: 'unknown', message: 'workload not found', stopped: false, workload_type: '' });
      expect(await timed(bed.stop(id))).toMatchObject({ stopped: true });
      nexlet.behave('dead');
      nexlet.beat({ state: 'stopping' });
      await waitFor('the node to forget it', async () => {
        const info = (await bed.json(`$NEX.SVC.system.control.INFO.${bed.node.id}`, {})) as {
          node_agent_summaries: unknown[];
        };
        return info.node_agent_summaries.length === 1;
      });
    },
  );

  it('CLONE of what a nexlet describes by garbage is an error of the node', async () => {
    const nexlet = new ScriptedNexlet(bed, 'liar', 'liar');
    nexlet.behave('garbage');
    await nexlet.register();
    nexlet.beat();
    const body = JSON.stringify({ namespace: 'default', new_target_xkey: 'XC' });
    await bed.expectError('$NEX.SVC.default.control.CLONE.somewhere', body, {
      code: '500',
      header: 'failed to unmarshal workload definition from agent',
      error: 'internal server error',
    });
    nexlet.behave('dead');
    nexlet.beat({ state: 'stopping' });
  });

  it('CLONE and UNDEPLOY refuse what is no request', async () => {
    await bed.expectError('$NEX.SVC.default.control.CLONE.x', '{}', {
      code: '400',
      header: 'failed to unmarshal clone workload request',
      error: anyText,
    });
    await bed.expectError('$NEX.SVC.default.control.UNDEPLOY.x', '{}', {
      code: '400',
      header: 'failed to unmarshal stop workload request',
      error: anyText,
    });
  });
});
