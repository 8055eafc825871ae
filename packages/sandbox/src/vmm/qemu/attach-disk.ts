import { chmod, chown, link, lstat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../file-errors.ts';
import { runCommand } from '../../network/network-command.ts';
import { SandboxError } from '../../sandbox-error.ts';
import { isWritable, QEMU_NAMES } from './qemu-arguments.ts';
import type { QemuProcess } from './qemu-process.ts';
import type { QmpClient } from './qmp-client.ts';

/** A disk that is to be put into a slot. */
export interface Disk {
  slot: number;
  /** Absolute path of a file of this machine. */
  file: string;
  writable: boolean;
}

/** Puts a file under the guest's device of a slot, in place of the empty disk that was there. */
export async function attachDisk(
  { client, process, run }: { client: QmpClient; process: QemuProcess; run: string },
  { slot, file, writable }: Disk,
): Promise<void> {
  const filename = `disk${slot}`;
  const { size } = await offer({ slot, file, writable }, { process, target: join(run, filename) });
  const names = { slot: QEMU_NAMES.slot(slot), file: QEMU_NAMES.file(slot) };
  const access = { 'read-only': !writable };
  await client.execute('blockdev-add', {
    ...access,
    driver: 'file',
    'node-name': names.file,
    filename,
    // What is only read never changes, and is shared by many. What is written to is nothing after a crash.
    ...(writable ? { cache: { 'no-flush': true } } : { locking: 'off' as const }),
  });
  await client.execute('blockdev-reopen', {
    options: [{ ...access, driver: 'raw', 'node-name': names.slot, file: names.file }],
  });
  // Tells the guest. A disk that can only be read keeps the size that it had when it was empty.
  if (writable) await client.execute('block_resize', { 'node-name': names.slot, size });
  await client.execute('blockdev-del', { 'node-name': QEMU_NAMES.empty(slot) });
}

/**
 * Gives QEMU a name for the file that it can reach: its user may have no way through the folders that the file is in, and
 * QEMU can be passed nothing that is open.
 */
async function offer(
  { slot, file, writable }: Disk,
  { process, target }: { process: QemuProcess; target: string },
): Promise<{ size: number }> {
  const refuse = (why: string) =>
    new SandboxError('SANDBOX_VMM_FAILED', `Cannot attach "${file}" to slot ${slot}: ${why}`);
  if (writable !== isWritable(slot)) {
    throw refuse(`a guest can ${isWritable(slot) ? 'write to' : 'only read'} what is there`);
  }
  const stats = await lstat(file);
  if (!stats.isFile()) throw refuse('it is no file');
  if (writable) {
    const user = process.user ?? 0;
    await chown(file, user, user);
    await chmod(file, 0o600);
  } else if ((stats.mode & 0o4) === 0) throw refuse('not everybody may read it');
  try {
    await link(file, target);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) throw refuse('there is a disk in it');
    if (!hasErrno(error, 'EXDEV', 'EMLINK', 'EPERM')) throw error;
    await mountThere(process, { file, target, refuse });
  }
  return stats;
}

/** What cannot be linked is mounted, where only QEMU sees it. */
async function mountThere(
  process: QemuProcess,
  { file, target, refuse }: { file: string; target: string; refuse: (why: string) => SandboxError },
): Promise<void> {
  await writeFile(target, '', { flag: 'wx', mode: 0o444 });
  const namespace = `--mount=/proc/${process.pid}/ns/mnt`;
  const { code, stderr } = await runCommand('nsenter', [namespace, 'mount', '--bind', file, target]);
  if (code !== 0) throw refuse(stderr.trim());
}
