import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GuestConnection } from '@nex-nix/guest';
import { describeWith, GUEST_TOOLS, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { FirecrackerApi } from '../src/vmm/firecracker/firecracker-api.ts';
import { FirecrackerVmm } from '../src/vmm/firecracker/firecracker-vmm.ts';
import { QemuVmm } from '../src/vmm/qemu/qemu-vmm.ts';
import type { Vm } from '../src/vmm/vmm.ts';
import { firecrackerBed, USER } from './firecracker/firecracker-bed.ts';

const run = promisify(execFile);
const SIGNAL = { timeoutMs: 30_000 };

function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** With taps that are up, for the VMs' user. */
async function networkNamespace(taps: readonly string[]) {
  const name = `nex-fc-${process.pid}`;
  await run('ip', ['netns', 'add', name]);
  const ip = async (...args: string[]) => (await run('ip', ['-netns', name, ...args])).stdout;
  for (const tap of taps) {
    await ip('tuntap', 'add', tap, 'mode', 'tap', 'user', `${USER}`, 'vnet_hdr');
    await ip('link', 'set', tap, 'up');
  }
  return {
    name,
    /** Whether somebody has opened it. */
    hasCarrier: async (tap: string) => !(await ip('link', 'show', tap)).includes('NO-CARRIER'),
    async [Symbol.asyncDispose]() {
      await run('ip', ['netns', 'delete', name]);
    },
  };
}

const TOOLS = [...GUEST_TOOLS, 'firecracker', 'socat', 'setpriv', 'unshare', 'nsenter', 'ip'];

/** What needs no word of the guest: on some machines KVM runs a guest's first instructions, and never gets far. */
describeWith(TOOLS, 'the real Firecracker', () => {
  it.runIf(hasKvm())('takes all requests of a boot, and runs without rights', async () => {
    await using bed = await firecrackerBed({ real: true });
    const vm = await bed.boot('vm-1', { memory: (256 << 20) + 1, vcpus: 2 });
    const status = await readFile(`/proc/${vm.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Uid:\t${USER}\t${USER}\t${USER}\t${USER}$`, 'm'));
    expect(status).toMatch(/^Cap(Prm|Eff|Bnd):\t0+$/m);
    using api = new FirecrackerApi(join(vm.record.folder, 'run'), 'api.sock');
    expect(await api.instance()).toMatchObject({ id: 'vm-1', state: 'Running' });
    expect(await api.machineConfig()).toEqual({ vcpu_count: 2, mem_size_mib: 257 });
    await expect(api.putMachineConfig({ vcpu_count: 1, mem_size_mib: 128 })).rejects.toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
      message: expect.stringContaining('not supported after starting the microVM') as string,
    });
    process.kill(vm.pid, 'SIGKILL');
    expect(await vm.exited).toMatchObject({ reason: 'killed' });
  });

  it.runIf(hasKvm())('gives disks to its slots, and is found again by its record', async () => {
    await using bed = await firecrackerBed({ real: true });
    const started = await bed.boot('vm-1');
    await started.attach(0, await bed.disk('closure', 8192), { writable: false });
    await started[Symbol.asyncDispose]();
    const vm = await bed.reattach(started.record);
    expect(vm.pid).toBe(started.pid);
    await vm.attach(0, await bed.disk('other', 4096), { writable: false });
    await vm.attach(1, await bed.disk('scratch', 4096, 0o666), { writable: true });
    await vm.kill();
    expect(await bed.vmm.reattach(vm.record)).toBeUndefined();
  });

  it.runIf(hasKvm())('makes a template, and restores others from it that run', async () => {
    await using bed = await firecrackerBed({ real: true });
    const first = await bed.boot('vm-1');
    const template = await first.toTemplate(join(bed.path, 'template'));
    expect(await first.exited).toMatchObject({ reason: 'killed' });
    expect((await stat(join(template.folder, 'snapshot.memory'))).size).toBe(256 << 20);
    for (const id of ['vm-2', 'vm-3']) {
      const vm = bed.own(await bed.vmm.restore(await bed.spec(id), template));
      using api = new FirecrackerApi(join(vm.record.folder, 'run'), 'api.sock');
      expect(await api.instance()).toMatchObject({ state: 'Running' });
      await vm.attach(0, await bed.disk(`closure-${id}`, 8192), { writable: false });
    }
    await writeFile(join(template.folder, 'snapshot.state'), 'damaged');
    const spec = await bed.spec('vm-4');
    await expect(bed.vmm.restore(spec, template)).rejects.toMatchObject({
      code: 'SANDBOX_TEMPLATE_UNFIT',
      message: expect.stringContaining('"/snapshot/load"') as string,
    });
    expect(await readdir(spec.folder)).toEqual([]);
  });

  it.runIf(hasKvm())('opens the tap of its own network namespace, and another one after a restore', async () => {
    await using bed = await firecrackerBed({ real: true });
    await using namespace = await networkNamespace(['tap1', 'tap2']);
    const tap = (name: string) => ({ namespace: namespace.name, name, mac: '02:00:00:00:00:01' });
    const vm = await bed.boot('vm-1', { network: true, tap: tap('tap1') });
    expect(await namespace.hasCarrier('tap1')).toBe(true);
    expect(await namespace.hasCarrier('tap2')).toBe(false);
    const template = await vm.toTemplate(join(bed.path, 'template'));
    bed.own(await bed.vmm.restore(await bed.spec('vm-2', { network: true, tap: tap('tap2') }), template));
    expect(await namespace.hasCarrier('tap2')).toBe(true);
  });

  it.runIf(hasKvm())('says what is wrong with a kernel, and leaves nothing', async () => {
    await using bed = await firecrackerBed({ real: true });
    const spec = await bed.spec('vm-1');
    const { manifest } = bed.image;
    const image = { ...bed.image, manifest: { ...manifest, kernel: manifest.initrd } };
    await expect(bed.vmm.boot({ ...spec, image })).rejects.toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
      message: expect.stringMatching(/^Cannot start the virtual machine "vm-1": .*[Kk]ernel/) as string,
    });
    expect(await readdir(spec.folder)).toEqual([]);
  });
});

describeWith([...TOOLS, 'jailer'], 'the real Firecracker in a jail', () => {
  it.runIf(hasKvm())('has nothing but its files, makes a template and restores it', async () => {
    await using bed = await firecrackerBed({ real: true, jailer: true });
    const vm = await bed.boot('vm-1');
    const root = await readdir(`/proc/${vm.pid}/root`);
    expect(root).toEqual(expect.arrayContaining(['kernel', 'initrd', 'root', 'slot0', 'slot1', 'dev', 'api.sock']));
    expect(root).not.toContain('usr');
    const status = await readFile(`/proc/${vm.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Uid:\t${USER}\t${USER}\t${USER}\t${USER}$`, 'm'));
    await vm.attach(0, await bed.disk('closure', 8192), { writable: false });
    const template = await vm.toTemplate(join(bed.path, 'template'));
    const restored = bed.own(await bed.vmm.restore(await bed.spec('vm-2'), template));
    expect(await restored.memory()).toBeGreaterThan(1 << 20);
  });
});

describeWith(TOOLS, 'a guest under the real Firecracker', () => {
  it.runIf(hasKvm())('boots, is attached a disk, becomes a template and is restored twice', async ({ skip }) => {
    await using bed = await firecrackerBed({ real: true });
    await using stateDir = await tempDir('nex-fc-probe-');
    const kvm = await new QemuVmm({ stateDir: stateDir.path, accelerator: 'kvm' }).check(bed.image);
    const answer = kvm.find(({ name }) => name === 'KVM');
    if (answer?.met !== true) return skip(`KVM boots no guest here: ${answer?.detail}`);
    const greet = async (vm: Vm) =>
      GuestConnection.open(await vm.connect({ signal: AbortSignal.timeout(30_000) }), SIGNAL);

    const first = await bed.boot('first');
    const connection = await greet(first);
    await connection.request({ type: 'ping' }, SIGNAL);
    await connection.request({ type: 'settle' }, SIGNAL);
    await connection[Symbol.asyncDispose]();
    await first.attach(0, await bed.disk('disk', 1 << 20), { writable: false });
    const template = await first.toTemplate(join(bed.path, 'template'));

    for (const id of ['second', 'third']) {
      const restored = bed.own(await new FirecrackerVmm(bed.options).restore(await bed.spec(id), template));
      const again = await greet(restored);
      await again.request({ type: 'ping' }, SIGNAL);
      expect(await restored.memory()).toBeGreaterThan(1 << 20);
      await again.request({ type: 'shutdown' }, SIGNAL);
      expect((await restored.exited).reason).toBe('shutdown');
    }
  });
});
