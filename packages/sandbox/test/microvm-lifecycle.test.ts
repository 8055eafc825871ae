import { chmod, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SandboxError } from '@nex-nix/sandbox';
import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { BUSYBOX_PATH, output, printed, processesOf, traces } from './bed.ts';
import { machineOf, machinesOf, microvmBed, TIMEOUT, TOOLS } from './microvm-bed.ts';

const KILLED = { code: 137, signal: 'SIGKILL', outOfMemory: false };

/** Far longer than any of these tests takes. */
const GRACE = 60_000;

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

describeWith(TOOLS, 'life of a microvm sandbox', () => {
  let bed: Awaited<ReturnType<typeof microvmBed>>;
  beforeAll(async () => (bed = await microvmBed({ poolSize: 2 })));
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
    expect(traces(bed.path)).toEqual([]);
  });

  it('runs ten programs one after the other, each in a machine of its own, and gives their exit codes', async () => {
    const machines = new Set<string>();
    for (let code = 0; code < 10; code++) {
      const { exit, stdout, stderr, sandbox } = await bed.run(`echo out ${code}; echo err >&2; exit ${code}`);
      expect({ exit, stdout, stderr }).toEqual({
        exit: { code, outOfMemory: false },
        stdout: `out ${code}\n`,
        stderr: 'err\n',
      });
      machines.add(await machineOf(bed.stateDir, sandbox.id));
      await sandbox.remove();
    }
    expect(machines.size).toBe(10);
  });

  it('runs two at once', async () => {
    const both = await Promise.all([bed.start('echo ready; sleep 100'), bed.start('echo ready; sleep 100')]);
    for (const sandbox of both) await printed(sandbox, 'ready');
    const [one, other] = await Promise.all(both.map((sandbox) => machineOf(bed.stateDir, sandbox.id)));
    expect(one).not.toBe(other);
    for (const sandbox of both) {
      await sandbox.stop({ graceMs: 0 });
      await sandbox.remove();
    }
  });

  it('leaves nothing once it is removed', async () => {
    const sandbox = await bed.start('echo ready; sleep 100');
    const machine = await machineOf(bed.stateDir, sandbox.id);
    expect(processesOf(machine).length).toBeGreaterThan(0);
    await expect(sandbox.remove()).rejects.toMatchObject({ code: 'SANDBOX_RUNNING' });
    expect(await sandbox.stop({ graceMs: 0 })).toEqual(KILLED);
    expect(processesOf(machine)).toEqual([]);
    await sandbox.remove();
    await sandbox.remove();
    expect(traces(machine)).toEqual([]);
    expect(machinesOf(bed.stateDir)).not.toContain(machine);
    expect(await bed.runtime.list()).toEqual([]);
  });

  it('stops by signal, within the grace', async () => {
    const sandbox = await bed.start(`trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.02; done`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ signal: 'SIGINT', graceMs: GRACE })).toEqual({ code: 7, outOfMemory: false });
    expect((await output(sandbox)).stdout).toBe('ready\nbye\n');
    await expect(sandbox.stop({ signal: 'SIGNOT' })).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    await sandbox.remove();
  });

  it('ends a program without a handler at once, and with it all that it has started', async () => {
    const sandbox = await bed.start('(while :; do sleep 1; done) & echo ready; wait');
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ graceMs: GRACE })).toEqual({ code: 143, signal: 'SIGTERM', outOfMemory: false });
    await sandbox.remove();
  });

  it('leaves the whole grace to one that ignores the signal, and then kills it', async () => {
    const sandbox = await bed.start(`trap '' TERM; echo ready; sleep 0.3; echo survived; while :; do sleep 1; done`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ graceMs: 1500 })).toEqual(KILLED);
    expect((await output(sandbox)).stdout).toBe('ready\nsurvived\n');
    await sandbox.remove();
  });

  it.each<[string, string, RegExp]>([
    ['missing', 'SANDBOX_PROGRAM_NOT_FOUND', /it does not exist in the closure$/],
    ['text', 'SANDBOX_PROGRAM_NOT_EXECUTABLE', /it is not executable$/],
    ['script', 'SANDBOX_START_FAILED', /the interpreter or dynamic loader that it names is not in its closure$/],
    ['garbage', 'SANDBOX_START_FAILED', /it is no program for this machine$/],
  ])('does not start a program that is %s, and leaves nothing behind', async (name, code, message) => {
    // A closure of its own: disks are cached, as store paths never change.
    const storePath = `/nix/store/${'1234'.repeat(8)}-${name}`;
    await writeFile(join(bed.source, 'bin', 'text'), 'text', { mode: 0o444 });
    await writeFile(join(bed.source, 'bin', 'script'), '#!/usr/bin/env node\n');
    await writeFile(join(bed.source, 'bin', 'garbage'), '\u007fELF garbage');
    for (const file of ['script', 'garbage']) await chmod(join(bed.source, 'bin', file), 0o555);
    const closure = [{ storePath, source: bed.source }];
    const sandbox = await bed.runtime.create(bed.spec('', { closure, program: `${storePath}/bin/${name}` }));
    const error = await sandbox.start().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SandboxError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect((error as SandboxError).message).toContain(`${storePath}/bin/${name}`);
    expect(await bed.runtime.list()).toEqual([]);
  });

  it('ends a start that is aborted, and leaves nothing behind', async () => {
    const sandbox = await bed.runtime.create(bed.spec('sleep 100'));
    const controller = new AbortController();
    const failed = expect(sandbox.start({ signal: controller.signal })).rejects.toThrow('changed my mind');
    controller.abort(new Error('changed my mind'));
    await failed;
    expect(await bed.runtime.list()).toEqual([]);
    await expect(sandbox.start()).rejects.toMatchObject({ code: 'SANDBOX_ALREADY_STARTED' });
  });

  it('stops and removes what was never started', async () => {
    const sandbox = await bed.runtime.create(bed.spec(''));
    await expect(bed.runtime.create(bed.spec('', { id: sandbox.id }))).rejects.toMatchObject({
      code: 'SANDBOX_ID_TAKEN',
    });
    expect(await sandbox.stop()).toEqual({ outOfMemory: false });
    await sandbox.remove();
    expect((await readdir(bed.stateDir)).filter((name) => !name.startsWith('.'))).toEqual([]);
  });

  it('refuses the network of this machine, and a closure that is not there', async () => {
    await expect(bed.runtime.create(bed.spec('', { network: 'host' }))).rejects.toMatchObject({
      code: 'SANDBOX_SPEC_INVALID',
      hint: expect.stringContaining('bridge') as string,
    });
    const closure = [{ storePath: BUSYBOX_PATH, source: '/nowhere' }];
    await expect(bed.runtime.create(bed.spec('', { closure }))).rejects.toMatchObject({
      code: 'SANDBOX_SOURCE_NOT_FOUND',
    });
  });

  it('shows the program its closure, little else, and no rights', async () => {
    const script = [
      'id -u; hostname',
      'grep -E "^(CapEff|CapBnd|NoNewPrivs):" /proc/self/status',
      'ls /nix/store; echo $(ls /); cat /etc/hosts; echo $SET',
      'touch /nix/store/x /x 2>&1 | grep -cE "Read-only|denied"',
      'echo kept >/tmp/file; cat /tmp/file',
    ].join('; ');
    const { stdout, sandbox } = await bed.run(script, { environment: { PATH: '/bin', SET: 'yes' } });
    expect(stdout.replaceAll('\t', ' ').trimEnd().split('\n')).toEqual([
      '1000',
      sandbox.id,
      'CapEff: 0000000000000000',
      'CapBnd: 0000000000000000',
      'NoNewPrivs: 1',
      BUSYBOX_PATH.slice('/nix/store/'.length),
      'dev etc nix proc run tmp',
      `127.0.0.1 localhost ${sandbox.id}`,
      '::1 localhost',
      'yes',
      '2',
      'kept',
    ]);
    await sandbox.remove();
  });
});
