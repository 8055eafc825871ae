import { link, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, guestImage, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { output, printed, processesOf, traces } from './bed.ts';
import { machineOf, machinesOf, microvmBed, TIMEOUT, TOOLS, vmmOf } from './microvm-bed.ts';

/** A guest image whose kernel is told something more. */
async function imageWith(folder: string, words: string): Promise<string> {
  const image = await guestImage();
  const changed = join(folder, 'image');
  await mkdir(changed);
  for (const name of await readdir(image)) {
    if (name === 'guest.json') {
      const manifest = JSON.parse(await readFile(join(image, name), 'utf8')) as { commandLine: string };
      const commandLine = `${manifest.commandLine} ${words}`;
      await writeFile(join(changed, name), JSON.stringify({ ...manifest, commandLine }));
    } else {
      await link(join(image, name), join(changed, name)).catch(async () =>
        writeFile(join(changed, name), await readFile(join(image, name))),
      );
    }
  }
  return changed;
}

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

describeWith(TOOLS, 'a microvm sandbox that goes wrong', () => {
  it('tells at once that its VMM was killed, and that its guest hangs; and a pool that loses a machine gets another', async () => {
    await using bed = await microvmBed({ heartbeatMs: 2000 });
    const sandbox = await bed.start('echo ready; sleep 100');
    await printed(sandbox, 'ready');
    const began = performance.now();
    process.kill(vmmOf(await machineOf(bed.stateDir, sandbox.id)), 'SIGKILL');
    expect(await sandbox.exited).toEqual({
      outOfMemory: false,
      reason: expect.stringContaining('was killed') as string,
    });
    expect(performance.now() - began).toBeLessThan(2000);
    expect((await output(sandbox)).stdout).toBe('ready\n');
    await sandbox.remove();

    await waitFor('the pool to be filled', () => bed.events.some(({ type }) => type === 'pooled'), { timeout: 60_000 });
    const [pooled = ''] = machinesOf(bed.stateDir);
    process.kill(vmmOf(pooled), 'SIGKILL');
    await waitFor('another machine', () => !machinesOf(bed.stateDir).includes(pooled), { timeout: 60_000 });

    const hanging = await bed.start('echo ready; sleep 100');
    await printed(hanging, 'ready');
    const machine = await machineOf(bed.stateDir, hanging.id);
    process.kill(vmmOf(machine), 'SIGSTOP');
    expect(await hanging.exited).toEqual({ outOfMemory: false, reason: expect.stringContaining('hung') as string });
    expect(processesOf(machine)).toEqual([]);
    const failure = bed.events.findLast(({ type }) => type === 'failed');
    expect(failure).toMatchObject({
      error: { message: expect.stringContaining('its guest hung; its console') as string },
    });
  });

  it('kills a machine whose guest hangs when it is stopped', async () => {
    await using bed = await microvmBed({ heartbeatMs: 0, poolSize: 0 });
    const sandbox = await bed.start('echo ready; sleep 100');
    await printed(sandbox, 'ready');
    process.kill(vmmOf(await machineOf(bed.stateDir, sandbox.id)), 'SIGSTOP');
    expect(await sandbox.stop({ graceMs: 200 })).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: false });
  });

  it('tells of a kernel panic, with the console in what is reported', async () => {
    await using dir = await tempDir();
    const guestImage = await imageWith(dir.path, 'sysctl.vm.panic_on_oom=2');
    await using bed = await microvmBed({ guestImage, poolSize: 0, useTemplates: false });
    const sandbox = await bed.start('echo ready; sleep 0.3; tail /dev/zero', { resources: { memory: 32 << 20 } });
    expect(await sandbox.exited).toEqual({
      outOfMemory: false,
      reason: expect.stringContaining('panicked') as string,
    });
    expect((await output(sandbox)).stdout).toBe('ready\n');
    const failure = bed.events.findLast(({ type }) => type === 'failed');
    expect(failure).toMatchObject({ error: { message: expect.stringMatching(/Kernel panic/) as string } });
  });

  it('says what a guest that does not get up has on its console, and leaves nothing', async () => {
    await using dir = await tempDir();
    const guestImage = await imageWith(dir.path, 'rdinit=/nowhere');
    await using bed = await microvmBed({ guestImage, poolSize: 0, useTemplates: false });
    const sandbox = await bed.runtime.create(bed.spec(''));
    const error = await sandbox.start().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'SANDBOX_START_FAILED',
      message: expect.stringMatching(
        /^Cannot start the sandbox "t-.*: .*last lines of its console:\n.*panic/s,
      ) as string,
    });
    expect(machinesOf(bed.stateDir)).toEqual([]);
    expect(traces(bed.path)).toEqual([]);
  });

  it('says that a guest did not answer in time', async () => {
    await using bed = await microvmBed({ poolSize: 0, useTemplates: false, handshakeTimeoutMs: 200 });
    const sandbox = await bed.runtime.create(bed.spec(''));
    await expect(sandbox.start()).rejects.toMatchObject({
      code: 'SANDBOX_START_FAILED',
      message: expect.stringContaining('its guest did not answer within 0.2 s') as string,
    });
    expect(machinesOf(bed.stateDir)).toEqual([]);
  });
});
