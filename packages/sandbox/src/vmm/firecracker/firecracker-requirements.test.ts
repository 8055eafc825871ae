import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { FirecrackerVmm } from './firecracker-vmm.ts';

/** What is required of the binary, when `--version` prints this. */
async function binaryThat(script: string) {
  await using dir = await tempDir('nex-fc-');
  const command = join(dir.path, 'firecracker');
  await writeFile(command, `#!/bin/sh\n${script}\n`);
  await chmod(command, 0o755);
  const all = await new FirecrackerVmm({ command }).check();
  return all.find(({ name }) => name === 'Firecracker');
}

describe('what Firecracker needs', () => {
  it('is a version that is spoken with', async () => {
    const current = await binaryThat('echo Firecracker v1.16.1');
    expect(current).toMatchObject({
      met: true,
      detail: expect.stringMatching(/^Firecracker v1\.16\.1 \(\S+\)$/) as string,
    });
    const old = await binaryThat('echo Firecracker v1.5.0');
    expect(old).toMatchObject({
      met: true,
      detail: expect.stringContaining('CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES') as string,
    });
    const newer = await binaryThat('echo Firecracker v1.17.0');
    expect(newer).toMatchObject({ met: true, detail: expect.stringContaining('newer than tested') as string });
  });

  it('is not met by an older one, nor by what is none; it says what to do', async () => {
    const cases = {
      'echo Firecracker v1.4.1': 'older than 1.5.0',
      'echo hello': 'prints "hello"',
      'echo no >&2; exit 1': '--version" fails',
    };
    for (const [script, says] of Object.entries(cases)) {
      const found = await binaryThat(script);
      expect(found, script).toMatchObject({
        met: false,
        essential: true,
        detail: expect.stringContaining(says) as string,
      });
      expect(found?.hint).toContain('Install');
    }
  });

  it('is the jailer, too, when it is to be used', async () => {
    const missing = { command: '/nowhere/firecracker', jailerCommand: '/nowhere/jailer' };
    const all = await new FirecrackerVmm({ ...missing, jailer: true }).check();
    expect(all.map(({ name }) => name)).toEqual(['Firecracker', 'KVM', 'Firecracker jailer']);
    expect(all.find(({ name }) => name === 'Firecracker jailer')).toMatchObject({ met: false });
    expect(await new FirecrackerVmm(missing).check()).toHaveLength(2);
  });
});
