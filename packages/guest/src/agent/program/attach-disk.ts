import { statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { bindReadOnly, MS } from './system-mounts.ts';
import { type Kernel, SyscallError } from '../kernel/run-syscalls.ts';
import { AT_FDCWD, FIRST_FD, SyscallList } from '../kernel/syscall-list.ts';
import { refused } from '../refused.ts';

const FLAGS = MS.RDONLY | MS.NOSUID | MS.NODEV;

/** Linux, `uapi/linux/fs.h`. */
const BLKFLSBUF = 0x1261;

/** How long the guest may take to see that a slot has another disk than an empty one. */
const APPEAR_MS = 2000;

/**
 * Mounts the closure's disk (erofs). The slot had another content when the guest booted, so whatever of that is in
 * memory goes first.
 *
 * @throws GuestError GUEST_REFUSED
 */
export async function attachDisk(
  kernel: Kernel,
  { source, target }: { source: string; target: string },
): Promise<void> {
  if (statSync(source, { throwIfNoEntry: false })?.isDirectory()) {
    const list = new SyscallList();
    bindReadOnly(list, source, target, FLAGS);
    kernel.run(list);
    return;
  }
  const deadline = Date.now() + APPEAR_MS;
  for (let pause = 5; ; pause *= 2) {
    try {
      kernel.run(mountCalls(source, target));
      return;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (Date.now() > deadline) {
        throw refused('failed', `Cannot mount the disk "${source}": ${error.message}`, { cause: error });
      }
    }
    await delay(pause);
  }
}

function mountCalls(source: string, target: string): SyscallList {
  return new SyscallList()
    .call('openat', AT_FDCWD, source, 0, 0)
    .call('ioctl', FIRST_FD, BLKFLSBUF, 0)
    .call('close', FIRST_FD)
    .call('mount', source, target, 'erofs', FLAGS, 0);
}
