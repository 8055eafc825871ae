import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestConfig } from './guest-config.ts';
import type { Kernel } from './kernel/run-syscalls.ts';
import { SyscallList } from './kernel/syscall-list.ts';

/** Of reboot(2). */
const MAGIC = [0xfee1_dead, 672_274_793] as const;
const COMMANDS = { poweroff: 0x4321_fedc, reboot: 0x0123_4567 } as const;

/** A host that does not read what it is told cannot keep a guest alive. */
const FLUSH_MS = 1000;

/** Ends the VM, once what was said to the host is on its way. */
export async function endMachine(
  kernel: Kernel,
  { config, stream }: { config: GuestConfig; stream: Duplex | undefined },
): Promise<void> {
  if (stream?.writableNeedDrain || (stream?.writableLength ?? 0) > 0) {
    await Promise.race([stream && once(stream, 'drain').catch(() => undefined), delay(FLUSH_MS)]);
  }
  const command = COMMANDS[config.end ?? 'poweroff'];
  kernel.run(new SyscallList().call('sync').call('reboot', ...MAGIC, command, 0));
}
