import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Bed, QUICK_POLICY, startBed } from '../../controller/test/bed.ts';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { expectFailure } from './bed.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

describeWith(['nats-server'], 'replicas by the nex command', () => {
  let bed: Bed;
  const nex = (...args: string[]) => runNex(['-s', bed.server.url, '--namespace', 'shop', ...args]);
  const workload = (version: string) => ['--type', 'memory', '--start-request', JSON.stringify({ version })];

  beforeAll(async () => {
    bed = await startBed(2);
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  it('start --replicas without a controller: exit code 5, and nothing is asked for', async () => {
    const run = await nex('workload', 'start', '--name', 'web', ...workload('a'), '--replicas', '2');
    expectFailure(run, 5, /Cannot keep replicas of "web": no controller answers\nhint: .*nex node up/);
    expect(await bed.deployments.list()).toEqual([]);
  });

  it('start --replicas waits until all run, status shows them', async () => {
    await bed.addController();
    const run = await nex('workload', 'start', '--name', 'web', ...workload('a'), '--replicas', '2', '--spread');
    expect(run, run.stderr).toMatchObject({ code: 0, stdout: 'Workload web: 2 replicas of revision 1 run\n' });
    expect(run.stderr).toMatch(/progressing: revision 1: \d of 2 run/);
    expect(bed.nodes.map(({ machine }) => machine.versions('web'))).toEqual([['a'], ['a']]);
    const list = await nex('workload', 'status');
    expect(list.stdout).toMatch(/web +│ memory +│ 1 +│ 2 of 2 +│ complete/);
    const one = await nex('--json', 'workload', 'status', 'web');
    expect(JSON.parse(one.stdout)).toMatchObject({ replicas: 2, strategy: 'spread', status: { phase: 'complete' } });
    await bed.deployments.update('web', { policy: QUICK_POLICY });
  });

  it('update rolls a new version out; a bad one ends with exit code 1, the reason, and the old one in place', async () => {
    const good = await nex('workload', 'update', 'web', '--start-request', '{"version":"b"}');
    expect(good, good.stderr).toMatchObject({ code: 0, stdout: 'Workload web: 2 replicas of revision 2 run\n' });
    expect(bed.versions()).toEqual(['b', 'b']);
    const bad = await nex('workload', 'update', 'web', '--start-request', '{"version":"bad","refuse":true}');
    expectFailure(bad, 1, /revision 3 was rolled back to 2: version bad is refused\nhint: .*nex workload status web/);
    expect(bed.versions()).toEqual(['b', 'b']);
    const { stdout } = await nex('workload', 'status', 'web');
    expect(stdout).toMatch(/rolled-back\n.*\n.*\n +Revision 3 failed: version bad is refused/);
  });

  it('rollback, scale and remove', async () => {
    expect(await nex('workload', 'rollback', 'web', '--to', '1')).toMatchObject({ code: 0 });
    expect(bed.versions()).toEqual(['a', 'a']);
    expect(await nex('workload', 'scale', 'web', '3')).toMatchObject({ code: 0 });
    expect(bed.versions()).toEqual(['a', 'a', 'a']);
    const gone = await nex('workload', 'remove', 'web');
    expect(gone).toMatchObject({ code: 0, stdout: 'Workload web is removed\n' });
    expect(bed.versions()).toEqual([]);
    expect((await nex('workload', 'status')).stdout).toBe('No replicas are kept\n');
  });

  it('of a workload that nobody asked for: exit code 3; of nothing: exit code 2', async () => {
    expectFailure(await nex('workload', 'status', 'nope'), 3, /Cannot find replicas of "nope"/);
    expectFailure(await nex('workload', 'scale', 'nope', '2'), 3, /Cannot find replicas of "nope"/);
    expectFailure(await nex('workload', 'scale', 'nope', 'two'), 2, /"two"/);
    expectFailure(await nex('workload', 'update', 'nope'), 2, /nothing is said to change/);
    const job = ['--lifecycle', 'job', '--replicas', '2'];
    expectFailure(await nex('workload', 'start', '--name', 'j', ...workload('a'), ...job), 2, /only a service is kept/);
  });
});

describeWith(['nats-server', 'crun', 'busybox'], 'nex node up', () => {
  it('keeps replicas, their environment sealed, unless told not to', async () => {
    await using folder = await tempDir('nex-replicas-');
    await using server = await startNatsServer();
    const nex = (...args: string[]) => runNex(['-s', server.url, ...args]);
    const start = async (name: string, ...options: string[]) => {
      const node = startNex([
        '-s',
        server.url,
        '--json',
        'node',
        'up',
        '--state-dir',
        join(folder.path, name),
        ...options,
      ]);
      await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 40_000 });
      return node;
    };
    await using node = await start('node');
    try {
      const sleep = join(folder.path, 'sleep');
      await copyFile(findTool('busybox') ?? '', sleep);
      const pushed = await nex('--json', 'cache', 'push', sleep);
      const { storePaths } = JSON.parse(pushed.stdout) as { storePaths: string[] };
      const request = ['--start-request', '{"argv":["1000"]}', '--env', 'TOKEN=a-secret'];
      const run = await nex('workload', 'start', storePaths[0] ?? '', '--name', 'nap', ...request, '--replicas', '2');
      expect(run, run.stderr).toMatchObject({ code: 0, stdout: 'Workload nap: 2 replicas of revision 1 run\n' });
      const { stdout } = await nex('workload', 'status', 'nap', '--json');
      expect(stdout).not.toContain('a-secret');
      expect(await nex('workload', 'remove', 'nap')).toMatchObject({ code: 0 });
    } finally {
      node.kill('SIGTERM');
      await node.exited;
    }
    await using idle = await start('idle', '--no-controller');
    try {
      const run = await nex('workload', 'start', '--name', 'nap', '--start-request', '{}', '--replicas', '1');
      expectFailure(run, 5, /no controller answers/);
    } finally {
      idle.kill('SIGTERM');
      await idle.exited;
    }
  });
});
