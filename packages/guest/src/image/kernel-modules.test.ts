import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { elfSection } from './elf.ts';
import { KernelModules } from './kernel-modules.ts';
import { findKernel } from './machine-kernel.ts';

describeWith(['linux-image'], 'modules of a kernel', () => {
  it('come after all that they need, each once, without what is built in', async () => {
    const { modules } = await findKernel(findTool('linux-image'));
    const ordered = await (
      await KernelModules.open(modules)
    ).inOrder(['virtio_net', 'virtio-mmio', 'virtio_net', 'no_such?']);
    const names = ordered.map(({ name }) => name);
    expect(names).toContain('virtio_mmio');
    expect(new Set(names).size).toBe(names.length);
    for (const { name, content } of ordered) {
      const [, needs = ''] =
        /(?:^|\0)depends=([^\0]*)/.exec(elfSection(content, '.modinfo')?.toString('latin1') ?? '') ?? [];
      for (const need of needs.split(',').filter((one) => one !== '')) {
        expect(names.slice(0, names.indexOf(name))).toContain(need.replaceAll('-', '_'));
      }
    }
    expect(names.indexOf('net_failover')).toBeLessThan(names.indexOf('virtio_net'));
  });

  it('are missed with a sentence that says which, and of what', async () => {
    const { modules } = await findKernel(findTool('linux-image'));
    await expect((await KernelModules.open(modules)).inOrder(['no_such'])).rejects.toMatchObject({
      code: 'GUEST_BUILD_FAILED',
      message: `Cannot build a guest: the kernel in "${modules}" has no module "no_such"`,
    });
  });

  it('are asked for where they are not', async () => {
    await using dir = await tempDir();
    const none = { code: 'GUEST_BUILD_FAILED', hint: expect.stringContaining('--modules') as string };
    await expect(KernelModules.open(join(dir.path, 'absent'))).rejects.toMatchObject(none);
    await expect(KernelModules.open(dir.path)).rejects.toMatchObject(none);
    await expect(findKernel(dir.path)).rejects.toMatchObject({
      code: 'GUEST_BUILD_FAILED',
      hint: expect.stringContaining('--kernel-package') as string,
    });
  });

  it('go with the newest kernel that has them', async () => {
    await using dir = await tempDir();
    await mkdir(join(dir.path, 'boot'));
    for (const version of ['6.9.1', '6.10.2', '6.11.0'])
      await writeFile(join(dir.path, 'boot', `vmlinuz-${version}`), '');
    for (const version of ['6.9.1', '6.10.2']) {
      await mkdir(join(dir.path, 'lib/modules', version), { recursive: true });
      await writeFile(join(dir.path, 'lib/modules', version, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n');
    }
    const found = await findKernel(dir.path);
    expect(found.kernel).toBe(join(dir.path, 'boot/vmlinuz-6.10.2'));
    expect(await (await KernelModules.open(found.modules)).inOrder(['ext4'])).toEqual([]);
    await cp(join(dir.path, 'lib'), join(dir.path, 'usr/lib'), { recursive: true });
    expect((await findKernel(dir.path)).modules).toBe(join(dir.path, 'lib/modules/6.10.2'));
  });
});
