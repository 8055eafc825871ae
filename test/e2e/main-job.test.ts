import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { devLog } from '@nex-nix/devenv';
import { describeWith, type RunningProcess, startProcess, type TempDir, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { findTraces, pids, readProc } from './leftovers.ts';
import { runNex } from './nex.ts';

const ROOT = join(import.meta.dirname, '../..');

vi.setConfig({ testTimeout: 180_000 });

describeWith(['nats-server', 'crun', 'nix', 'npm'], 'npm start', () => {
  let folder: TempDir;
  let data: string;
  let interfaces: string[];

  beforeAll(async () => {
    folder = await tempDir('nex-e2e-');
    data = join(folder.path, 'data');
    ({ interfaces } = await findTraces([data]));
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  const npmStart = (...args: string[]): RunningProcess =>
    // In a process group of its own, as a terminal has it: Ctrl-C goes to the whole group.
    startProcess('npm', ['start', '--silent', '--', '--data-dir', data, ...args], { cwd: ROOT, detached: true });

  /** Runs the main job to its end; looks at the workload from outside while it runs. */
  const runOnce = async (): Promise<{ output: string; seen: SeenFromOutside }> => {
    await using job = npmStart('--once');
    const seen = await waitFor('the workload to run', () => lookAtWorkload(data), { timeout: 120_000, interval: 10 });
    const { code } = await job.exited;
    expect(code, job.output()).toBe(0);
    return { output: job.output(), seen };
  };

  const expectNothingLeft = async (): Promise<void> => {
    const traces = await findTraces([data]);
    expect(traces).toEqual({ processes: [], mounts: [], cgroups: [], interfaces });
  };

  const closureOf = async (output: string): Promise<string[]> => {
    const [storePath = ''] = /\/nix\/store\/\S+-echo-1\.0\.0/.exec(output) ?? [];
    await using query = startProcess('nix-store', ['-qR', storePath]);
    await query.exited;
    return query.stdout().trim().split('\n').toSorted(byName);
  };

  it('with --once and fresh data: builds, ships, runs and asks the echo service, and leaves nothing behind', async () => {
    const { output, seen } = await runOnce();
    const closure = await closureOf(output);

    expect(output).toMatch(
      /🚀 Workload 'echo' accepted\. You can now refer to this workload with ID: \w{22} on node N\w{55}/,
    );
    expect(output).toMatch(/│ \w{22} +│ echo +│ .* nix +│ service +│ running +│/);
    expect(output).toMatch(/│ EchoService +│ 1\.0\.0 +│ \w{22} +│/);
    expect(output).toMatch(/received with rtt [\d.]+ ms:\nhello\n/);

    const names = closure.map((path) => path.slice('/nix/store/'.length + 33).replace(/-[0-9.]+$/, ''));
    expect(names).toEqual(expect.arrayContaining(['echo', 'nodejs', 'glibc']));
    expect(seen.store).toEqual(closure.map((path) => path.slice('/nix/store/'.length)));
    expect(seen.mountedStorePaths).toEqual(closure);
    await expectNothingLeft();
  });

  it("with the node's own store emptied: the closure comes back from NATS, every NAR hash verified", async () => {
    await rm(join(data, 'node/store'), { recursive: true });
    await rm(join(data, 'logs'), { recursive: true });
    const { output } = await runOnce();
    const closure = await closureOf(output);

    expect(output).toContain(`${closure.length} paths, all there already`);
    const log = await Array.fromAsync(devLog(data, { services: ['node'] }), ({ text }) => text);
    const realised = log.filter((text) => text.includes('closure realised, every NAR hash verified'));
    expect(realised).toEqual([expect.stringContaining(` paths=${closure.length} `)]);
    for (const path of closure) {
      const hashes = ['-q', '--hash', path];
      await using wanted = startProcess('nix-store', hashes);
      await using got = startProcess('nix-hash', ['--type', 'sha256', '--base32', join(data, 'node/store', path)]);
      await Promise.all([wanted.exited, got.exited]);
      expect(`sha256:${got.stdout().trim()}`).toBe(wanted.stdout().trim());
    }
    await expectNothingLeft();
  });

  it('stays up without --once; Ctrl-C stops everything it started', async () => {
    await using job = npmStart();
    await waitFor('the main job to stay up', () => job.output().includes('Ctrl-C stops it all'), { timeout: 120_000 });
    const admin = (...args: string[]) => runNex(['--context', 'ExpAdmin', ...args], { XDG_CONFIG_HOME: data });
    const nodes = await admin('--json', 'node', 'list');
    const [{ node_id: nodeId = '' } = {}] = JSON.parse(nodes.stdout) as { node_id?: string }[];
    expect((await admin('node', 'info', '--full', nodeId)).stdout).toMatch(
      /healthy.*nix \[\d+\.\d+\.\d+\].*service,job/,
    );
    expect((await admin('logs')).stdout).toMatch(/^\w{22} EchoService 1\.0\.0 ready on svc\.echo/m);
    expect((await admin('workload', 'stop', 'unknown')).code).toBe(3);
    const [, cache = ''] = /Binary cache for Nix clients at (\S+)/.exec(job.output()) ?? [];
    const [, name = ''] = /devrun \/nix\/store\/(\w{32})-echo/.exec(job.output()) ?? [];
    expect(await (await fetch(`${cache}/${name}.narinfo`)).text()).toMatch(/^Sig: nex-dev-/m);
    process.kill(-job.pid, 'SIGINT');
    // npm itself ends as a program does that was interrupted.
    expect(await job.exited).toEqual({ code: null, signal: 'SIGINT' });
    expect(job.output()).toContain('Stopping …');
    expect(job.stderr()).not.toContain('error');
    await expectNothingLeft();
  });

  it('killed with SIGKILL: the node ends by itself, and the next start works', async () => {
    const job = npmStart();
    await waitFor('the main job to stay up', () => job.output().includes('Ctrl-C stops it all'), { timeout: 120_000 });
    for (const pid of await pids()) {
      const command = await readProc(`/proc/${pid}/cmdline`);
      if (command.includes('scripts/main-job.ts') && command.includes(data)) process.kill(pid, 'SIGKILL');
    }
    await job.exited;
    await waitFor('the node to end', async () => (await lookAtWorkload(data)) === undefined, { timeout: 30_000 });
    const { output } = await runOnce();
    expect(output).toContain('\nhello\n');
    await expectNothingLeft();
  });
});

const byName = (a: string, b: string): number => (a < b ? -1 : 1);

interface SeenFromOutside {
  /** Names in the workload's /nix/store. */
  store: string[];
  /** Everything mounted below the workload's /nix/store. */
  mountedStorePaths: string[];
}

/** The echo workload of the node below `data`, as its own mount namespace has it; undefined while there is none. */
async function lookAtWorkload(data: string): Promise<SeenFromOutside | undefined> {
  for (const pid of await pids()) {
    const environment = (await readProc(`/proc/${pid}/environ`)).split('\0');
    if (!environment.includes('NEX_WORKLOAD_NAME=echo')) continue;
    const mounts = (await readProc(`/proc/${pid}/mountinfo`)).trim().split('\n');
    if (!mounts.some((mount) => mount.includes(data.slice(data.indexOf('nex-e2e-'))))) continue;
    const store = await readdir(`/proc/${pid}/root/nix/store`).catch(() => []);
    if (store.length === 0) continue;
    const below = mounts.map((mount) => mount.split(' ')[4] ?? '').filter((target) => target.startsWith('/nix/store/'));
    return { store: store.toSorted(byName), mountedStorePaths: [...new Set(below)].toSorted(byName) };
  }
  return undefined;
}
