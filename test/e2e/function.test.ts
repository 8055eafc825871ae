import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { headers } from '@nats-io/nats-core';
import { describeWith, findTool, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { findTraces } from './leftovers.ts';
import { runNex, startNex } from './nex.ts';

const SCRIPT = join(import.meta.dirname, '../../examples/function/shout.sh');

describeWith(['nats-server', 'crun', 'busybox'], 'examples/function', () => {
  it('answers requests, as its README says', async () => {
    await using folder = await tempDir('nex-function-');
    await using server = await startNatsServer();
    const nex = ['-s', server.url];
    await using node = startNex([...nex, '--json', 'node', 'up', '--state-dir', join(folder.path, 'node')]);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
    const argv = ['sh', '-c', await readFile(SCRIPT, 'utf8')].flatMap((text) => ['--argv', text]);
    const options = ['--name', 'shout', '--trigger', 'shout', '--network', 'none', ...argv];
    const { code, stdout, stderr } = await runNex([...nex, '--json', 'devrun', findTool('busybox') ?? '', ...options]);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const { id } = JSON.parse(stdout) as { id: string };

    await using logs = startNex([...nex, 'logs', '-f', id]);
    const nc = await server.connect();
    const head = headers();
    head.set('Name', 'Ada');
    // Until the command listens.
    await waitFor('its line', async () => {
      const reply = await nc.request('shout', 'good morning', { headers: head, timeout: 10_000 });
      expect(reply.string()).toBe('Ada says: GOOD MORNING');
      return logs.output().includes('shouted on shout');
    });
    const list = await runNex([...nex, 'workload', 'list']);
    expect(list.stdout).toMatch(/shout.*warm/s);
    expect((await runNex([...nex, 'workload', 'stop', id])).code).toBe(0);
    node.kill('SIGTERM');
    expect((await node.exited).code).toBe(0);
    expect(await findTraces([folder.path])).toMatchObject({ processes: [], mounts: [], cgroups: [] });
  });
});
