import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OciRuntime, type SandboxRecord, type SandboxSpec } from '@nex-nix/sandbox';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, output, printed, STARTER, testBed, TOOLS, traces } from './bed.ts';

const b = `${BUSYBOX} `;

/** Starts a sandbox in another process and kills that process with SIGKILL. */
async function startAndKill(stateDir: string, spec: SandboxSpec): Promise<SandboxRecord> {
  await using child = startProcess(process.execPath, ['--conditions=nexsrc', STARTER, stateDir, JSON.stringify(spec)]);
  let ended = false;
  void child.exited.then(() => (ended = true));
  const line = await waitFor('the sandbox to run', () => {
    if (ended) throw new Error(child.output());
    return child.stdout().endsWith('\n') && child.stdout();
  });
  child.kill('SIGKILL');
  await child.exited;
  return JSON.parse(line) as SandboxRecord;
}

describeWith(TOOLS, 'adoption of an oci sandbox', () => {
  it('finds a sandbox again whose starter was killed, with its logs and its exit', async () => {
    await using bed = await testBed();
    const script = `trap 'echo after; exit 5' USR1; echo before; while :; do ${b}sleep 0.02; done`;
    const record = await startAndKill(bed.stateDir, bed.spec(script, { resources: { pids: 9 } }));
    expect(await bed.runtime.list()).toEqual([record]);
    const sandbox = await bed.runtime.adopt(record);
    if (sandbox === undefined) throw new Error('not adopted');
    expect(sandbox.record).toEqual(record);
    expect((await sandbox.usage()).pids).toBeGreaterThan(0);
    await printed(sandbox, 'before');
    const following = Array.fromAsync(sandbox.logs(undefined, { follow: true }));
    expect(await sandbox.stop({ signal: 'SIGUSR1' })).toEqual({ code: 5, outOfMemory: false });
    expect((await following).map(({ line }) => Buffer.from(line).toString())).toEqual(['before', 'after']);
    expect(await sandbox.exited).toEqual({ code: 5, outOfMemory: false });
    await sandbox.remove();
    expect(traces(sandbox.id)).toEqual([]);
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('tells how a sandbox ended that nobody watched', async () => {
    await using bed = await testBed();
    const record = await startAndKill(bed.stateDir, bed.spec(`${b}sleep 0.3; echo done; exit 6`));
    await waitFor('the program to end', () => traces(bed.path).length === 0);
    const sandbox = await bed.runtime.adopt(record);
    expect(await sandbox?.exited).toEqual({ code: 6, outOfMemory: false });
    expect(sandbox && (await output(sandbox)).stdout).toBe('done\n');
  });

  it('removes the environment from disk where the starter was killed too early to do so', async () => {
    await using bed = await testBed();
    const record = await startAndKill(bed.stateDir, bed.spec(`echo ready; ${b}sleep 100`));
    const config = join(bed.stateDir, record.id, 'bundle/config.json');
    await writeFile(config, '{}');
    const sandbox = await bed.runtime.adopt(record);
    await waitFor('the file to go', () => !existsSync(config));
    expect((await sandbox?.stop({ graceMs: 0 }))?.code).toBe(137);
  });

  it('clears away folders that were being made or removed when their process was killed', async () => {
    await using bed = await testBed();
    for (const name of ['.making-a', '.removing-b']) await mkdir(join(bed.stateDir, name));
    await writeFile(join(bed.stateDir, '.removing-b/stdout'), 'x');
    await using _next = await OciRuntime.open({ stateDir: bed.stateDir });
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('stops what it has adopted', async () => {
    await using bed = await testBed();
    const record = await startAndKill(bed.stateDir, bed.spec(`echo ready; ${b}sleep 100`));
    const sandbox = await bed.runtime.adopt(record);
    expect(await sandbox?.stop({ graceMs: 50 })).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
    expect(traces(record.id)).toEqual([]);
  });

  it('leaves a sandbox running that is let go of', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    const exited = expect(sandbox.exited).rejects.toMatchObject({ code: 'SANDBOX_RELEASED' });
    await sandbox[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
    await exited;
    await expect(sandbox.remove()).rejects.toMatchObject({ code: 'SANDBOX_RELEASED' });
    const runtime = await OciRuntime.open({ stateDir: bed.stateDir });
    try {
      const again = await runtime.adopt(sandbox.record);
      expect(again).toBeDefined();
      expect(await runtime.adopt(sandbox.record)).toBe(again);
      expect((await again?.stop({ graceMs: 0 }))?.code).toBe(137);
    } finally {
      await runtime[Symbol.asyncDispose]();
    }
  });

  it('does not take a later sandbox of the same id for the one of a record', async () => {
    await using bed = await testBed();
    const { sandbox } = await bed.run('');
    await sandbox.remove();
    const next = await bed.start(`${b}sleep 100`, { id: sandbox.id });
    expect(await bed.runtime.adopt(sandbox.record)).toBeUndefined();
    await next[Symbol.asyncDispose]();
    expect(await bed.runtime.adopt(sandbox.record)).toBeUndefined();
    expect(await bed.runtime.adopt({ ...next.record, version: 2 as 1 })).toBeUndefined();
    expect(await bed.runtime.adopt(next.record)).toBeDefined();
  });

  it('clears away a sandbox that was never started', async () => {
    await using bed = await testBed();
    const sandbox = await bed.runtime.create(bed.spec(''));
    await sandbox[Symbol.asyncDispose]();
    expect(await bed.runtime.list()).toHaveLength(1);
    expect(await bed.runtime.adopt(sandbox.record)).toBeUndefined();
    expect(await readdir(bed.stateDir)).toEqual([]);
  });
});
