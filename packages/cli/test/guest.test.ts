import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { findKernel } from '@nex-nix/guest';
import { describeWith, findTool, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { runNex } from '../../../test/e2e/nex.ts';

describeWith(['mkfs.erofs', 'busybox', 'mkfs.ext4', 'linux-image'], 'nex guest', () => {
  it('builds an image, shows it, and says what is wrong with one that has changed', { timeout: 90_000 }, async () => {
    await using dir = await tempDir('nex-test-', { inMemory: true });
    const folder = join(dir.path, 'guest');
    const { kernel, modules } = await findKernel(findTool('linux-image'));
    const built = await runNex(['guest', 'build', '--output', folder, '--kernel', kernel, '--modules', modules]);
    expect(built).toMatchObject({ code: 0 });
    expect(built.stdout).toContain(`nex node up --guest-image ${folder}`);

    const shown = await runNex(['guest', 'show', folder, '--verify', '--json']);
    expect(JSON.parse(shown.stdout)).toMatchObject({
      folder,
      verified: true,
      manifest: { version: 1, kind: 'minimal', storePaths: [] },
    });

    await rm(join(folder, 'initrd'));
    const damaged = await runNex(['guest', 'show', folder]);
    expect(damaged).toMatchObject({ code: 3 });
    expect(damaged.stderr).toContain(`Cannot use the guest image "${folder}": its file "initrd" is not there`);
    expect(damaged.stderr).toContain(`nex guest build --output ${folder} --replace`);

    const again = await runNex(['guest', 'build', '--output', folder]);
    expect(again).toMatchObject({ code: 1 });
    expect(again.stderr).toContain('it is there already');
  });
});

describe('nex guest build', () => {
  it('wants a kernel with its modules', async () => {
    const alone = await runNex(['guest', 'build', '--output', '/tmp/never', '--kernel', '/boot/vmlinuz']);
    expect(alone).toMatchObject({ code: 2 });
    expect(alone.stderr).toContain('Give both --kernel FILE and --modules FOLDER');
    const both = await runNex([
      'guest',
      'build',
      '--output',
      '/tmp/never',
      '--kernel-package',
      'a.deb',
      '--kernel',
      'b',
    ]);
    expect(both).toMatchObject({ code: 2 });
  });
});
