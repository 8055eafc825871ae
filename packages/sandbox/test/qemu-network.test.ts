import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { openNamespace, runIn } from './network-bed.ts';
import { TOOLS } from './qemu-bed.ts';

describeWith([...TOOLS, 'ip', 'nsenter'], 'the network of a VM under QEMU', () => {
  it('is a tap device in a namespace of its own, also for a guest whose template had none', async () => {
    const namespace = await openNamespace();
    try {
      const said = await runIn(
        namespace,
        `${process.execPath} --conditions=nexsrc ${import.meta.dirname}/qemu-ping.ts`,
      );
      expect(said).toContain('1 packets received, 0% packet loss');
      expect(said).toContain('lladdr 02:00:00:00:00:07');
    } finally {
      namespace.kill('SIGKILL');
    }
  }, 90_000);
});
