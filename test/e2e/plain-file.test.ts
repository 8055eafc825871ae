import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  describeWith,
  findTool,
  type RunningProcess,
  startNatsServer,
  type TempDir,
  tempDir,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findTraces } from './leftovers.ts';
import { runNex, startNex } from './nex.ts';

/** Whoever publishes has an empty PATH: there is no Nix to be found. */
describeWith(['nats-server', 'crun', 'busybox'], 'nex devrun of a plain file, without Nix', () => {
  let folder: TempDir;
  let server: Awaited<ReturnType<typeof startNatsServer>>;
  let node: RunningProcess;
  let env: Record<string, string>;

  beforeAll(async () => {
    folder = await tempDir('nex-plain-');
    server = await startNatsServer();
    env = { PATH: join(folder.path, 'no-nix-here') };
    node = startNex(['-s', server.url, '--json', 'node', 'up', '--state-dir', join(folder.path, 'node')]);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
  });
  afterAll(async () => {
    node.kill('SIGTERM');
    await node.exited;
    await server[Symbol.asyncDispose]();
    expect(await findTraces([folder.path])).toMatchObject({ processes: [], mounts: [], cgroups: [] });
    await folder[Symbol.asyncDispose]();
  });

  it('ships and runs a static binary, and says what it says', async () => {
    const file = join(folder.path, 'busybox-server');
    await copyFile(findTool('busybox') ?? '', file);
    const argv = ['sh', '-c', 'trap exit TERM; while echo hello from "$0"; do sleep 1; done', 'a plain file'].flatMap(
      (text) => ['--argv', text],
    );
    const { code, stdout, stderr } = await runNex(['-s', server.url, '--json', 'devrun', file, ...argv], env);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const { id, storePath } = JSON.parse(stdout) as { id: string; storePath: string };
    expect(storePath).toMatch(/-busybox-server$/);
    const logs = startNex(['-s', server.url, 'logs', '-f', id], env);
    await waitFor('its first line', () => logs.output().includes('hello from a plain file'));
    logs.kill('SIGTERM');
    await logs.exited;
    expect((await runNex(['-s', server.url, 'workload', 'stop', id], env)).code).toBe(0);
  });

  it('refuses a program that needs more than itself, before anything is sent', async () => {
    const { code, stderr } = await runNex(['-s', server.url, 'devrun', '/bin/sh'], env);
    expect(code).toBe(4);
    expect(stderr).toMatch(
      /error: Cannot run ".*": it needs ".*ld-linux.*", which is not in its closure\nhint: .*CGO_ENABLED=0/,
    );
  });
});
