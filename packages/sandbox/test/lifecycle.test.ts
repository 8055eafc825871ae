import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SandboxError } from '@nex-nix/sandbox';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import {
  BUSYBOX,
  BUSYBOX_PATH,
  output,
  printed,
  processesOf,
  readOrEmpty,
  supervisorOf,
  testBed,
  TOOLS,
  traces,
} from './bed.ts';

const b = `${BUSYBOX} `;

describeWith(TOOLS, 'life of an oci sandbox', () => {
  it.each([0, 1, 3, 255])('gives the exit code %i', async (code) => {
    await using bed = await testBed();
    expect((await bed.run(`exit ${code}`)).exit).toEqual({ code, outOfMemory: false });
  });

  it('starts programs of no duration every time', async () => {
    await using bed = await testBed();
    for (let i = 0; i < 10; i++) {
      const { exit, sandbox } = await bed.run('', { argv: ['true'] });
      expect(exit).toEqual({ code: 0, outOfMemory: false });
      await sandbox.remove();
    }
  });

  it('stops by signal, within the grace', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`trap 'echo bye; exit 7' TERM; echo ready; while :; do ${b}sleep 0.02; done`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop()).toEqual({ code: 7, outOfMemory: false });
    expect((await output(sandbox)).stdout).toBe('ready\nbye\n');
    expect(traces(sandbox.id)).toEqual([]);
  });

  it('sends the signal it is given', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`trap 'exit 9' INT; echo ready; while :; do ${b}sleep 0.02; done`);
    await printed(sandbox, 'ready');
    expect((await sandbox.stop({ signal: 'SIGINT' })).code).toBe(9);
    await expect(sandbox.stop({ signal: 'SIGNOT' })).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
  });

  it('kills a program that ignores the signal, with all it has started', async () => {
    await using bed = await testBed();
    const ignore = `trap '' TERM INT HUP`;
    const sandbox = await bed.start(
      `${ignore}; (while :; do ${b}sleep 1; done) & echo ready; while :; do ${b}sleep 1; done`,
    );
    await printed(sandbox, 'ready');
    const processes = processesOf(sandbox.id);
    expect(processes.length).toBeGreaterThan(2);
    expect(await sandbox.stop({ graceMs: 100 })).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
    expect(processesOf(sandbox.id)).toEqual([]);
    expect(traces(sandbox.id)).toEqual([]);
  });

  it('leaves nothing once it is removed', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    expect(traces(sandbox.id).length).toBeGreaterThan(0);
    await expect(sandbox.remove()).rejects.toMatchObject({ code: 'SANDBOX_RUNNING', kind: 'refused' });
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
    await sandbox.remove();
    expect(traces(sandbox.id)).toEqual([]);
    expect(traces(bed.path)).toEqual([]);
    expect(await readdir(bed.stateDir)).toEqual([]);
    expect(await bed.runtime.list()).toEqual([]);
  });

  it('ends everything when the program ends before its children', async () => {
    await using bed = await testBed();
    const { exit, sandbox } = await bed.run(`${b}sleep 100 & exit 4`);
    expect(exit.code).toBe(4);
    expect(processesOf(sandbox.id)).toEqual([]);
  });

  it('keeps the environment on disk no longer than the start takes', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`, { environment: { SECRET: 'correct-horse' } });
    const texts = async () => {
      const files = await readdir(bed.stateDir, { recursive: true, withFileTypes: true });
      // One or the other is replaced meanwhile.
      return files.filter((file) => file.isFile()).map((file) => readOrEmpty(join(file.parentPath, file.name)));
    };
    await waitFor('it to be gone', async () => !(await texts()).some((text) => text.includes('correct-horse')));
    expect((await texts()).length).toBeGreaterThan(3);
    expect((await sandbox.stop({ graceMs: 0 })).code).toBe(137);
  });

  it.each<[string, string, RegExp]>([
    ['missing', 'SANDBOX_PROGRAM_NOT_FOUND', /it does not exist in the closure$/],
    ['text', 'SANDBOX_PROGRAM_NOT_EXECUTABLE', /it is not executable$/],
    ['script', 'SANDBOX_START_FAILED', /the interpreter or dynamic loader that it names is not in its closure$/],
    ['garbage', 'SANDBOX_START_FAILED', /it is no program for this machine$/],
  ])('does not start a program that is %s, and leaves nothing behind', async (name, code, message) => {
    await using bed = await testBed();
    await writeFile(join(bed.source, 'bin', 'text'), 'text', { mode: 0o444 });
    await writeFile(join(bed.source, 'bin', 'script'), '#!/usr/bin/env node\n');
    await writeFile(join(bed.source, 'bin', 'garbage'), '\u007fELF garbage');
    for (const file of ['script', 'garbage']) await chmod(join(bed.source, 'bin', file), 0o555);
    const sandbox = await bed.runtime.create(bed.spec('', { program: `${BUSYBOX_PATH}/bin/${name}` }));
    const error = await sandbox.start().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SandboxError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect((error as SandboxError).message).toContain(`${BUSYBOX_PATH}/bin/${name}`);
    expect(traces(sandbox.id)).toEqual([]);
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('ends a start that is aborted, and leaves nothing behind', async () => {
    await using bed = await testBed();
    const sandbox = await bed.runtime.create(bed.spec(`${b}sleep 100`));
    const controller = new AbortController();
    const starting = sandbox.start({ signal: controller.signal });
    const failed = expect(starting).rejects.toThrow('changed my mind');
    await waitFor('the supervisor to run', () => supervisorOf(bed.stateDir, sandbox.id) > 0, { interval: 1 });
    controller.abort(new Error('changed my mind'));
    await failed;
    expect(traces(sandbox.id)).toEqual([]);
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('names a store path that does not lie where it should', async () => {
    await using bed = await testBed();
    const closure = [{ storePath: BUSYBOX_PATH, source: join(bed.path, 'nowhere') }];
    await expect(bed.runtime.create(bed.spec('', { closure }))).rejects.toMatchObject({
      code: 'SANDBOX_SOURCE_NOT_FOUND',
      message: expect.stringContaining(join(bed.path, 'nowhere')) as string,
    });
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('names an OCI runtime that is not installed', async () => {
    await using bed = await testBed({ command: 'crun-that-is-not-there' });
    await expect(bed.runtime.create(bed.spec(''))).rejects.toMatchObject({
      code: 'SANDBOX_RUNTIME_MISSING',
      kind: 'not-found',
      hint: 'apt-get install crun',
    });
    expect((await bed.runtime.check()).find(({ name }) => name === 'OCI runtime')).toMatchObject({ met: false });
  });

  it('says what the machine must have', async () => {
    await using bed = await testBed();
    const requirements = await bed.runtime.check();
    expect(requirements.map(({ name }) => name)).toEqual(expect.arrayContaining(['root', 'OCI runtime', 'cgroups']));
    expect(requirements.filter(({ met }) => !met)).toEqual([]);
  });

  it('refuses an id that is taken, by this runtime or another', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    const again = bed.spec('', { id: sandbox.id });
    await expect(bed.runtime.create(again)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN', kind: 'refused' });
    await using elsewhere = await testBed();
    await expect(elsewhere.runtime.create(again)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN' });
    await sandbox[Symbol.asyncDispose]();
    await expect(bed.runtime.create(again)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN' });
  });

  it('takes the place of one that has ended, and of a broken folder', async () => {
    await using bed = await testBed();
    const { sandbox } = await bed.run('echo old');
    await sandbox[Symbol.asyncDispose]();
    const next = await bed.run('echo new', { id: sandbox.id });
    expect(next.stdout).toBe('new\n');
    await next.sandbox.remove();
    await mkdir(join(bed.stateDir, sandbox.id, 'bundle'), { recursive: true });
    expect((await bed.run('echo newer', { id: sandbox.id })).stdout).toBe('newer\n');
  });

  it('starts once', async () => {
    await using bed = await testBed();
    const { sandbox } = await bed.run('');
    await expect(sandbox.start()).rejects.toMatchObject({ code: 'SANDBOX_ALREADY_STARTED' });
  });

  it('stops and removes a sandbox that was never started', async () => {
    await using bed = await testBed();
    const sandbox = await bed.runtime.create(bed.spec(''));
    expect(await sandbox.stop()).toEqual({ outOfMemory: false });
    await sandbox.remove();
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('reports a sandbox whose supervisor was killed, and ends it', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    process.kill(supervisorOf(bed.stateDir, sandbox.id), 'SIGKILL');
    expect(await sandbox.exited).toEqual({ outOfMemory: false });
    expect(processesOf(sandbox.id)).toEqual([]);
  });

  it('ends a sandbox whose OCI runtime was killed', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    for (const pid of processesOf(sandbox.id)) {
      if ((await readFile(`/proc/${pid}/comm`, 'utf8')).trim() === 'crun') process.kill(pid, 'SIGKILL');
    }
    expect(await sandbox.exited).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
    await waitFor('the program to end', () => processesOf(sandbox.id).length === 0);
  });
});
