import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcessesAt, type SandboxSpec } from '@nex-nix/sandbox';
import {
  describeWith,
  findTool,
  type RunningProcess,
  startProcess,
  type TempDir,
  tempDir,
  waitFor,
} from '@nex-nix/test-kit';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { nexCommand } from '../../../test/e2e/nex.ts';
import { BUSYBOX, BUSYBOX_PATH } from '../../sandbox/test/bed.ts';
import { NETWORK_TOOLS, openNamespace, runIn, startCalls, TRACES } from '../../sandbox/test/network-bed.ts';
import type { NetworkProcess } from '../../sandbox/test/network-process.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

/** Commands begin sooner with what others have compiled. */
const COMPILED = join(tmpdir(), 'node-compile-cache');

interface Left {
  kind: string;
  name: string;
}

/** A machine of its own network and `/run`, on which things are killed. Control groups are those of this machine: their ids are the test's own. */
describeWith([...NETWORK_TOOLS, 'nats-server', 'mkfs.erofs'], 'nex clean', () => {
  let folder: TempDir;
  let machine: ChildProcess;
  /** Where temporary folders are. */
  let temporary: string;
  let stateDir: string;
  let dataDir: string;
  const mark = `c-${process.pid}`;
  const ids = { dead: `${mark}-dead`, live: `${mark}-live`, gone: `${mark}-gone` };

  beforeEach(async () => {
    folder = await tempDir('nex-clean-');
    machine = await openNamespace();
    [temporary, stateDir, dataDir] = [join(folder.path, 'tmp'), join(folder.path, 'one'), join(folder.path, 'data')];
    await mkdir(temporary);
  });
  afterEach(async () => {
    await killCgroups(Object.values(ids));
    // What a test that failed has left running.
    await endProcessesAt(folder.path);
    machine.kill('SIGKILL');
    await folder[Symbol.asyncDispose]();
  });

  const startNexThere = (args: readonly string[], env: Record<string, string> = {}) => {
    const { command, env: environment } = nexCommand(args, { TMPDIR: temporary, NODE_COMPILE_CACHE: COMPILED, ...env });
    const enter = [`--target=${machine.pid}`, '--net', '--mount', ...command];
    return startProcess(findTool('nsenter') ?? 'nsenter', enter, { cwd: folder.path, env: environment });
  };
  const clean = async (...args: string[]): Promise<Left[]> => {
    await using run = startNexThere(['--json', 'clean', '--state-dir', stateDir, '--data-dir', dataDir, ...args]);
    const { code } = await run.exited;
    expect(code, run.output()).toBe(0);
    const { leftovers } = JSON.parse(run.stdout()) as { leftovers: Left[] };
    // Those without a sandbox count when they have been empty for a minute, and others may have left some.
    return leftovers.filter(({ kind }) => kind !== 'cgroup');
  };
  const spec = (id: string): SandboxSpec => ({
    id,
    closure: [{ storePath: BUSYBOX_PATH, source: join(folder.path, 'busybox') }],
    program: BUSYBOX,
    argv: ['sleep', '600'],
    environment: {},
    resources: {},
    network: 'bridge',
  });
  /** A node's runtime that has started sandboxes and was killed. */
  const startAndDie = async (sandboxes: string, started: readonly string[]) => {
    const { remote, end } = startCalls<NetworkProcess>(machine, ['network-process.ts', sandboxes]);
    await remote.open();
    for (const id of started) await remote.start(spec(id));
    await expect(remote.die()).rejects.toThrow('killed');
    await end();
  };
  /** Kills a sandbox with all that keeps it. */
  const kill = async (sandboxes: string, id: string) => {
    const [, pid] = (await readFile(join(sandboxes, id, 'supervisor'), 'utf8')).split(' ');
    process.kill(Number(pid), 'SIGKILL');
    await killCgroups([id], { remove: false });
  };
  /** All that is there, whoever has made it. */
  const everything = async () => ({
    network: await runIn(machine, `${TRACES}\niptables-save | grep -v '^[#:]'\nls -R /run/nex-nix`),
    files: (await readdir(folder.path, { recursive: true }))
      .filter((name) => !/-(?:shm|wal|journal)$/.test(name))
      .sort(),
    cgroups: await cgroupsOf(mark),
  });

  it('removes one of each that a kill -9 leaves, lists the same before, and touches nothing else', async () => {
    await prepareStore(folder.path);
    const sandboxes = join(stateDir, 'sandboxes');
    const abandoned = join(folder.path, 'two');
    await startAndDie(sandboxes, [ids.dead, ids.live]);
    await startAndDie(join(abandoned, 'sandboxes'), [ids.gone]);
    await kill(sandboxes, ids.dead);
    await kill(join(abandoned, 'sandboxes'), ids.gone);
    await rm(abandoned, { recursive: true });
    // Long ago, or somebody might be about to connect it.
    await runIn(machine, `touch -d '2 hours ago' /run/nex-nix/attachments/*`);
    await using dev = startNexThere(['dev', 'up', '--data-dir', dataDir, '--no-cache', '--no-view']);
    await waitFor('the services', () => dev.output().includes('Ctrl-C'), { timeout: 60_000 });
    const server = await pidOf(join(dataDir, 'nats/nats-server.conf'));
    await killed(dev);
    await using preflight = startNexThere(['node', 'preflight', '--check'], { PATH: await hangingTools(folder.path) });
    const trial = await waitFor('the trial', async () => {
      const names = (await readdir(temporary, { recursive: true })).filter((name) => name.endsWith('/supervisor'));
      return names[0];
    });
    await killBuilding(folder.path, join(stateDir, 'machines'));
    // Of others, with names as ours.
    const others = ['nex-trial-mine', 'nex-notes'].map((name) => join(temporary, name));
    for (const other of others) await mkdir(other);
    await writeFile(join(others[1] ?? '', 'owner'), 'me\n');
    await runIn(machine, `ip netns add nex-01234567-x; ip link add nex9 type bridge; iptables -N NEX-MINE`);

    // What belongs to somebody who is alive is not left over.
    const early = await clean('--dry-run');
    expect(early.filter(({ name }) => name.startsWith(temporary))).toEqual([]);
    await killed(preflight);

    const before = await everything();
    const listed = await clean('--dry-run');
    expect(await everything()).toEqual(before);
    const named = (kind: string) => listed.filter((one) => one.kind === kind).map(({ name }) => name);
    expect(named('sandbox')).toEqual(
      expect.arrayContaining([join(sandboxes, ids.dead), join(temporary, trial.split('/supervisor')[0] ?? '')]),
    );
    expect(named('network').filter((name) => name.startsWith('/run/netns/'))).toEqual([
      expect.stringContaining(ids.dead),
      expect.stringContaining(ids.gone),
    ]);
    expect(named('network').filter((name) => name.startsWith('veth'))).toHaveLength(2);
    expect(named('process')).toContain(String(server));
    expect(named('socket')).toEqual([join(dataDir, 'dev.sock')]);
    expect(named('image')).toHaveLength(1);
    expect(named('folder').filter((name) => name.startsWith(join(temporary, 'nex-preflight-')))).toHaveLength(1);

    expect(await clean()).toEqual(listed);
    expect(await clean()).toEqual([]);
    const after = await everything();
    expect(after.network).not.toMatch(new RegExp(`${ids.dead}|${ids.gone}`));
    for (const kept of [ids.live, 'nex0', 'nex9', 'nex-01234567-x', 'NEX-MINE']) expect(after.network).toContain(kept);
    expect(after.cgroups.filter((name) => name.endsWith(ids.dead))).toEqual([]);
    expect(await processesIn(ids.live)).not.toEqual([]);
    const names = (await readdir(temporary)).filter((name) => name.startsWith('nex-'));
    expect(names.sort()).toEqual(['nex-notes', 'nex-trial-mine']);
    // Whoever has become its parent has not necessarily waited for it yet.
    expect(await stateOf(server)).toMatch(/^(?:Z.*)?$/);
    expect(existsSync(join(dataDir, 'nsc/Nex/Nex.jwt'))).toBe(true);

    // What it left alone, it takes once that is dead too.
    await kill(sandboxes, ids.live);
    expect(await clean()).not.toEqual([]);
    expect(await runIn(machine, 'ip -o link; iptables-save')).not.toMatch(/nex0|veth/);
  });
});

/** A program for sandboxes. */
async function prepareStore(path: string): Promise<void> {
  await mkdir(join(path, 'busybox/bin'), { recursive: true });
  await writeFile(join(path, 'busybox/bin/busybox'), await readFile(findTool('busybox') ?? ''), { mode: 0o755 });
}

/** Where the sandboxes' control groups are, of those whose ids begin so. */
async function cgroupsOf(start: string): Promise<string[]> {
  const parents = ['/sys/fs/cgroup/nex-nix'];
  for (const name of await readdir('/sys/fs/cgroup')) parents.push(join('/sys/fs/cgroup', name, 'nex-nix'));
  const found: string[] = [];
  for (const parent of parents.filter((one) => existsSync(one))) {
    for (const name of await readdir(parent)) if (name.startsWith(start)) found.push(join(parent, name));
  }
  return found.sort();
}

async function processesIn(id: string): Promise<number[]> {
  const texts = await Promise.all(
    (await cgroupsOf(id)).map((cgroup) => readFile(join(cgroup, 'cgroup.procs'), 'utf8')),
  );
  return [...new Set(texts.flatMap((text) => text.split('\n').filter(Boolean).map(Number)))];
}

/** Kills what is in the control groups of sandboxes, and removes these unless told otherwise. */
async function killCgroups(ids: readonly string[], { remove = true } = {}): Promise<void> {
  for (const id of ids) {
    for (const pid of await processesIn(id)) process.kill(pid, 'SIGKILL');
    await waitFor('the end of its processes', async () => (await processesIn(id)).length === 0);
    if (remove) for (const cgroup of await cgroupsOf(id)) await rmdir(cgroup);
  }
}

async function killed(run: RunningProcess): Promise<void> {
  run.kill('SIGKILL');
  await waitFor('its end', () => !existsSync(`/proc/${run.pid}`));
}

/** The process that was started with a file. */
async function pidOf(file: string): Promise<number> {
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const text = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    if (text.split('\0').includes(file)) return Number(name);
  }
  throw new Error(`No process was started with ${file}`);
}

/** As `Z (zombie)`; empty when there is no such process. */
async function stateOf(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return /^State:\t(.*)/m.exec(status)?.[1] ?? '';
}

/** PATH with a crun that starts nothing, and does not end. */
async function hangingTools(path: string): Promise<string> {
  const tools = join(path, 'hanging');
  await mkdir(tools);
  const script = `#!/bin/sh\ncase "$*" in *" run "*|*" create "*) kill -STOP $$ ;; *) exec ${findTool('crun')} "$@" ;; esac\n`;
  await writeFile(join(tools, 'crun'), script, { mode: 0o755 });
  return `${tools}:${process.env['PATH']}`;
}

/** A disk whose building was cut short: the program that builds it kills the process that wanted it. */
async function killBuilding(path: string, machines: string): Promise<void> {
  const tools = join(path, 'killing');
  await mkdir(tools);
  await writeFile(join(tools, 'mkfs.erofs'), `#!/bin/sh\nkill -9 $(cat ${tools}/victim)\n`, { mode: 0o755 });
  const script = `
    const { WorkloadDisks } = await import('@nex-nix/sandbox');
    const disks = await WorkloadDisks.open({ folder: process.argv[1], budget: 0 });
    (await import('node:fs')).writeFileSync('${tools}/victim', String(process.pid));
    await disks.disk([{ storePath: '${BUSYBOX_PATH}', source: process.argv[2] }]);`;
  const args = [
    '--conditions=nexsrc',
    '--input-type=module',
    '-e',
    script,
    join(machines, '.disks'),
    join(path, 'busybox'),
  ];
  await using run = startProcess(process.execPath, args, {
    cwd: import.meta.dirname,
    env: { ...process.env, PATH: `${tools}:${process.env['PATH']}` },
  });
  expect(await run.exited, run.output()).toMatchObject({ signal: 'SIGKILL' });
}
