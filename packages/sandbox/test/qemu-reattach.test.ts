import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { RUN_FOLDER } from '../src/vmm/qemu/launch.ts';
import { QEMU_FILES } from '../src/vmm/qemu/qemu-arguments.ts';
import { QmpClient } from '../src/vmm/qemu/qmp-client.ts';
import { connectUnix } from '../src/vmm/unix-connection.ts';
import type { Vm, VmRecord, VmTemplate } from '../src/vmm/vmm.ts';
import { erofs, qemuBed, run, tell, TOOLS } from './qemu-bed.ts';

const STARTER = fileURLToPath(import.meta.resolve('./qemu-start-and-wait.ts'));

describeWith(TOOLS, 'a VM under QEMU whose starter is gone', () => {
  let bed: Awaited<ReturnType<typeof qemuBed>>;
  let template: VmTemplate;

  beforeAll(async () => {
    bed = await qemuBed();
    const vm = await bed.boot();
    await run(vm, 'mkdir -p /mnt');
    template = await vm.toTemplate(join(bed.path, 'template'));
  }, 90_000);
  afterEach(async () => bed.killAll());
  afterAll(async () => bed[Symbol.asyncDispose]());

  const reattached = async (record: VmRecord): Promise<Vm> => {
    const vm = await bed.reattach(record);
    if (vm === undefined) throw new Error('The VM is gone');
    return vm;
  };

  it('runs on when that was killed, and is found again with all that can be done with it', async () => {
    const spec = await bed.spec();
    const args = ['--conditions=nexsrc', STARTER, join(bed.path, 'vmm'), JSON.stringify(spec)];
    await using starter = startProcess(process.execPath, args);
    let ended = false;
    void starter.exited.then(() => (ended = true));
    const line = await waitFor(
      'the guest to be up',
      () => {
        if (ended) throw new Error(starter.output());
        return starter.stdout().endsWith('\n') && starter.stdout();
      },
      { timeout: 60_000 },
    );
    starter.kill('SIGKILL');
    await starter.exited;
    const vm = await reattached(JSON.parse(line) as VmRecord);
    const disk = join(bed.path, 'late.img');
    await erofs(disk, { hello: 'from a late disk\n' });
    await vm.attach(0, disk, { writable: false });
    const command =
      'mkdir -p /mnt; mount -t erofs -o ro /dev/vdb /mnt && cat /made /mnt/hello; echo "second words" >/dev/console';
    expect(await run(vm, command)).toBe('before\nfrom a late disk\n');
    expect(await vm.consoleTail()).toMatch(/first words[^]*second words/);
    expect(await vm.memory()).toBeGreaterThan(16 << 20);
    process.kill(vm.pid, 'SIGKILL');
    const killed = performance.now();
    expect((await vm.exited).reason).toBe('killed');
    expect(performance.now() - killed).toBeLessThan(1000);
    expect(await bed.reattach(vm.record)).toBeUndefined();
  }, 90_000);

  it('tells how its guest ended while nobody looked', async () => {
    const vm = await bed.restore(template);
    await vm[Symbol.asyncDispose]();
    const again = await reattached(vm.record);
    await again[Symbol.asyncDispose]();
    await tell(again, 'echo "last words" >/dev/console; echo o >/proc/sysrq-trigger');
    await waitFor('the guest to end', async () => (await statusOf(vm.record)) === 'shutdown');
    const late = await reattached(vm.record);
    expect((await late.exited).reason).toBe('shutdown');
    expect(await late.consoleTail()).toContain('last words');
    await waitFor('its process to be buried', () => !existsSync(`/proc/${late.pid}`));
  });

  it('is ended when its start, or the making of a template, was cut short', async () => {
    const vm = await bed.restore(template);
    await vm[Symbol.asyncDispose]();
    {
      using monitor = await QmpClient.open(await connectUnix(join(vm.record.folder, RUN_FOLDER), QEMU_FILES.monitor));
      await monitor.execute('stop');
    }
    expect(await bed.reattach(vm.record)).toBeUndefined();
    await waitFor('its process to be buried', () => !existsSync(`/proc/${vm.pid}`));
  });
});

async function statusOf({ folder }: VmRecord): Promise<string> {
  using monitor = await QmpClient.open(await connectUnix(join(folder, RUN_FOLDER), QEMU_FILES.monitor));
  return (await monitor.execute('query-status')).status;
}
