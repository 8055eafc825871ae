import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { describeWith, startNatsServer, startProcess, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { Deployments, runController } from '../src/index.ts';
import { QUICK_POLICY, startBed } from './bed.ts';

vi.setConfig({ testTimeout: 45_000 });

const WEB = { name: 'web', type: 'memory', replicas: 2, policy: QUICK_POLICY };

function startController(url: string, id: string) {
  return startProcess(process.execPath, [
    '--conditions',
    'nexsrc',
    join(import.meta.dirname, 'controller-process.ts'),
    url,
    id,
  ]);
}

describeWith(['nats-server'], 'of several controllers', () => {
  it('one leads, another one does when it ends, at once', async () => {
    await using bed = await startBed(1);
    const first = await bed.addController();
    await waitFor('a leader', () => first.controller.leading);
    const others = [await bed.addController(), await bed.addController()];
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('the replicas', ({ phase }) => phase === 'complete');
    expect(others.filter(({ controller }) => controller.leading)).toEqual([]);
    await first.controller[Symbol.asyncDispose]();
    await waitFor('a successor', () => others.filter(({ controller }) => controller.leading).length === 1, {
      timeout: 3_000,
    });
    await bed.deployments.scale('web', 3);
    await bed.until('three replicas', ({ phase, wanted }) => phase === 'complete' && wanted === 3);
    expect(bed.nodes[0]?.machine.started).toHaveLength(3);
  });

  it('one that was asleep while its lease ended does nothing when it wakes up', async () => {
    await using bed = await startBed(1);
    await using sleeper = startController(bed.server.url, 'sleeper');
    await waitFor('the leader', () => sleeper.stdout().includes('leading'));
    const { controller } = await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('the replicas', ({ phase, controller: by }) => phase === 'complete' && by === 'sleeper');

    sleeper.kill('SIGSTOP');
    await waitFor('the successor', () => controller.leading, { timeout: 12_000 });
    const asked: string[] = [];
    const listen = await bed.server.connect();
    for (const subject of ['$NEX.SVC.*.control.ADEPLOY.*', '$NEX.SVC.*.control.UNDEPLOY.*'])
      listen.subscribe(subject, { callback: (_error, msg) => void asked.push(msg.subject) });
    await listen.flush();
    // To the sleeper this is the first list in a while that has no replica.
    bed.nodes[0]?.machine.workloads.clear();
    sleeper.kill('SIGCONT');
    await bed.until('replacements', ({ phase, controller: by }) => phase === 'complete' && by !== 'sleeper');
    await waitFor('the insight', () => /leading\nstanding by/.test(sleeper.stdout()));
    expect(controller.leading).toBe(true);
    expect(asked.filter((subject) => subject.includes('ADEPLOY'))).toHaveLength(2);
    expect(bed.nodes[0]?.machine.workloads.size).toBe(2);
  });

  it('one whose connection is lost stops to act before another one begins', async () => {
    await using bed = await startBed(1);
    const first = await bed.addController();
    await waitFor('a leader', () => first.controller.leading);
    const second = await bed.addController();
    let both = 0;
    const watch = setInterval(() => (both += Number(first.controller.leading && second.controller.leading)), 2);
    try {
      await first.nc.close();
      await waitFor('the successor', () => second.controller.leading, { timeout: 12_000 });
    } finally {
      clearInterval(watch);
    }
    expect(both).toBe(0);
  });
});

describeWith(['nats-server'], 'replicas', () => {
  it('run on while JetStream is away, and are kept again when it is back', async () => {
    await using bed = await startBed(1);
    const { controller } = await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('the replicas', ({ phase }) => phase === 'complete');
    await bed.server.restart();
    const answer = () => bed.deployments.get('web').catch(() => undefined);
    await waitFor('JetStream', async () => (await answer()) !== undefined, { timeout: 20_000 });
    await waitFor('the controller', () => controller.leading, { timeout: 20_000 });
    await bed.deployments.scale('web', 3);
    await bed.until('three replicas', ({ phase, wanted }) => phase === 'complete' && wanted === 3);
    // None was replaced.
    expect(bed.nodes[0]?.machine.started).toHaveLength(3);
  });

  it('run on when everything stored is lost; asked for again, they are replaced by what is asked for', async () => {
    await using bed = await startBed(1);
    await bed.addController();
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'a' } });
    await bed.until('the replicas', ({ phase }) => phase === 'complete');
    const jsm = await jetstreamManager(bed.nc);
    for (const name of ['KV_nex_deployments', 'KV_nex_deployment_status', 'KV_nex_controller'])
      await jsm.streams.delete(name);
    await waitFor(
      'a new lease',
      async () => (await jsm.streams.info('KV_nex_controller').catch(() => undefined)) !== undefined,
      {
        timeout: 20_000,
      },
    );
    expect(bed.versions()).toEqual(['a', 'a']);
    await bed.deployments.apply({ ...WEB, runRequest: { version: 'b' } });
    await bed.until('others', ({ phase }) => phase === 'complete');
    expect(bed.versions()).toEqual(['b', 'b']);
  });
});

describeWith(['nats-server'], 'without JetStream', () => {
  it('a deployment is refused, with what to do', async () => {
    await using server = await startNatsServer({ jetstream: false });
    const nc = await server.connect();
    await using controller = runController(nc, { id: 'c' });
    await expect(new Deployments(nc).apply({ ...WEB, runRequest: {} })).rejects.toMatchObject({
      code: 'CONTROLLER_NO_JETSTREAM',
      hint: expect.stringContaining('JetStream'),
    });
    expect(controller.leading).toBe(false);
  });
});
