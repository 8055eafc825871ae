import { stat } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';

/** Arguments of setpriv(1), besides user and group, for a VMM: nothing that is not its files' is allowed to it. */
export const WITHOUT_RIGHTS: readonly string[] = [
  '--clear-groups',
  '--no-new-privs',
  '--bounding-set=-all',
  '--inh-caps=-all',
  '--ambient-caps=-all',
];

/** A character device, for mknod(1). */
export interface DeviceNode {
  path: string;
  major: number;
  minor: number;
}

/**
 * The device nodes among these that a user cannot open as they are, so that it has to be given some of its own.
 *
 * @throws SandboxError SANDBOX_VMM_MISSING when one is not there at all
 */
export async function closedDevices(paths: readonly string[]): Promise<DeviceNode[]> {
  const nodes = await Promise.all(paths.map(unlessOpen));
  return nodes.filter((node) => node !== undefined);
}

async function unlessOpen(path: string): Promise<DeviceNode | undefined> {
  try {
    const { mode, rdev } = await stat(path);
    if ((mode & 0o6) === 0o6) return undefined;
    // As the kernel packs them: `new_decode_dev()`.
    return { path, major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new SandboxError('SANDBOX_VMM_MISSING', `Cannot start a guest: this machine has no "${path}"`, {
      hint: path === '/dev/kvm' ? 'Run guests by QEMU without KVM' : 'modprobe tun',
      cause: error,
    });
  }
}
