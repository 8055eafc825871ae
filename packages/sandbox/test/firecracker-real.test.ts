import { accessSync, constants } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GuestConnection, readGuestImage } from '@nex-nix/guest';
import { describeWith, GUEST_TOOLS, guestImage, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { FirecrackerVmm } from '../src/vmm/firecracker/firecracker-vmm.ts';
import type { Vm, VmSpec } from '../src/vmm/vmm.ts';

const SIGNAL = { timeoutMs: 30_000 };

function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

describeWith([...GUEST_TOOLS, 'firecracker', 'socat'], 'a guest under the real Firecracker', () => {
  it.runIf(hasKvm())('boots, is attached a disk, becomes a template and is restored twice', async () => {
    await using dir = await tempDir('nex-fc-real-');
    await chmod(dir.path, 0o711);
    const folder = await guestImage();
    const image = { folder, manifest: await readGuestImage(folder) };
    const vmm = new FirecrackerVmm();
    const spec = async (id: string): Promise<VmSpec> => {
      const own = join(dir.path, id);
      await mkdir(own);
      const shape = { image, vcpus: 1, memory: 256 << 20, slots: 2, network: false };
      return { ...shape, id, folder: own, user: 61_234, cgroupEntries: [] };
    };
    const greet = async (vm: Vm) =>
      GuestConnection.open(await vm.connect({ signal: AbortSignal.timeout(30_000) }), SIGNAL);
    await using stack = new AsyncDisposableStack();
    const own = (vm: Vm) => {
      stack.defer(async () => vm.kill());
      return vm;
    };

    const first = own(await vmm.boot(await spec('first')));
    const connection = await greet(first);
    await connection.request({ type: 'ping' }, SIGNAL);
    await connection.request({ type: 'settle' }, SIGNAL);
    await connection[Symbol.asyncDispose]();
    const disk = join(dir.path, 'disk');
    await writeFile(disk, Buffer.alloc(1 << 20));
    await first.attach(0, disk, { writable: false });
    const template = await first.toTemplate(join(dir.path, 'template'));

    for (const id of ['second', 'third']) {
      const restored = own(await vmm.restore(await spec(id), template));
      const again = await greet(restored);
      await again.request({ type: 'ping' }, SIGNAL);
      expect(await restored.memory()).toBeGreaterThan(1 << 20);
      await again.request({ type: 'shutdown' }, SIGNAL);
      expect((await restored.exited).reason).toBe('shutdown');
    }
  });
});
