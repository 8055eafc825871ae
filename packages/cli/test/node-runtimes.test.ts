import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { silentLogger } from '@nex-nix/nexlet';
import { expect, it } from 'vitest';
import { openRuntimes, type RuntimesOptions } from '../src/node-runtimes.ts';

const MACHINES = {
  vmm: 'qemu',
  accel: 'tcg',
  machinePoolSize: 1,
  machineVcpus: 1,
  machineMemory: 2 ** 28,
  machineTimeout: 30_000,
} as const;

describeWith(['crun'], 'the runtimes of a node', () => {
  const open = async (options: Partial<RuntimesOptions>, stateDir: string) => {
    const stack = new AsyncDisposableStack();
    const surroundings = { logger: silentLogger, stack, onEvent: () => undefined };
    const opened = await openRuntimes({ ...MACHINES, ...options, stateDir }, surroundings);
    const { oci, microvm, former = [] } = opened.runtimes;
    return {
      sandbox: opened.sandbox,
      offered: [oci, microvm].flatMap((runtime) => runtime?.name ?? []),
      former: former.map(({ name }) => name),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  };

  it('are containers alone where nobody asks for more', async () => {
    await using folder = await tempDir('nex-runtimes-');
    await using opened = await open({}, folder.path);
    expect(opened).toMatchObject({ sandbox: 'oci', offered: ['oci'], former: [] });
  });

  it('are also those in which an earlier node may have left something, to look after it', async () => {
    await using folder = await tempDir('nex-runtimes-');
    await mkdir(join(folder.path, 'machines'));
    await using opened = await open({}, folder.path);
    expect(opened).toMatchObject({ sandbox: 'oci', offered: ['oci'], former: ['microvm'] });
  });

  it('are not opened with a guest image that is none, or with what its manager cannot do', async () => {
    await using folder = await tempDir('nex-runtimes-');
    const guestImage = folder.path;
    await expect(open({ guestImage }, folder.path)).rejects.toMatchObject({
      code: 'GUEST_IMAGE_INVALID',
      hint: expect.stringContaining('nex guest build') as string,
    });
    await expect(open({ guestImage, vmm: 'firecracker' }, folder.path)).rejects.toThrow('without KVM');
    await expect(open({ guestImage, jailer: true }, folder.path)).rejects.toThrow('it is of Firecracker');
  });
});
