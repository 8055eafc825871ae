import { statSync } from 'node:fs';
import { join } from 'node:path';
import { AT_FDCWD, type SyscallList } from '../kernel/syscall-list.ts';

/** Flags of mount(2) without their prefix. */
export const MS = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, REMOUNT: 0x20, BIND: 0x1000 } as const;

const S_IFCHR = 0o020_000;

/** Type and number of devices as the kernel's `admin-guide/devices.txt` has them. */
const DEVICES: readonly (readonly [name: string, major: number, minor: number])[] = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
];

const DEVICE_LINKS = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
] as const;

/** What tells of the machine, or can change it: nothing to a program's purpose. Others are root's alone in any case. */
const MASKED = [
  'acpi',
  'asound',
  'bus',
  'cmdline',
  'config.gz',
  'fs',
  'interrupts',
  'iomem',
  'irq',
  'kallsyms',
  'kcore',
  'key-users',
  'keys',
  'latency_stats',
  'modules',
  'sched_debug',
  'scsi',
  'sysrq-trigger',
  'timer_list',
  'timer_stats',
];

/** Shows a file or folder in another place, only to be read. */
export function bindReadOnly(list: SyscallList, source: string, target: string, flags: number): void {
  list.call('mount', source, target, 0, MS.BIND, 0);
  list.call('mount', 0, target, 0, MS.REMOUNT | MS.BIND | MS.RDONLY | flags, 0);
}

/** `/proc` with a program's own processes only. */
export function mountProc(list: SyscallList, target: string): void {
  const flags = MS.NOSUID | MS.NODEV | MS.NOEXEC;
  list.call('mount', 'proc', target, 'proc', flags, 'hidepid=invisible');
  for (const name of MASKED) {
    const kind = statSync(join('/proc', name), { throwIfNoEntry: false });
    if (kind?.isDirectory())
      list.call('mount', 'tmpfs', join(target, name), 'tmpfs', flags | MS.RDONLY, 'size=0,mode=555');
    else if (kind !== undefined) list.call('mount', '/dev/null', join(target, name), 0, MS.BIND, 0);
  }
  bindReadOnly(list, join(target, 'sys'), join(target, 'sys'), flags);
}

/** `/dev` with devices that are no devices, and `/dev/shm`. */
export function mountDevices(list: SyscallList, target: string): void {
  const flags = MS.NOSUID | MS.NOEXEC;
  list.call('mount', 'tmpfs', target, 'tmpfs', flags, 'mode=755,size=64k');
  for (const [name, major, minor] of DEVICES) {
    list.call('mknodat', AT_FDCWD, join(target, name), S_IFCHR | 0o666, (major << 8) | minor);
  }
  for (const [name, path] of DEVICE_LINKS) list.call('symlinkat', path, AT_FDCWD, join(target, name));
  list.call('mkdirat', AT_FDCWD, join(target, 'shm'), 0o755);
  list.call('mount', 'shm', join(target, 'shm'), 'tmpfs', flags | MS.NODEV, 'mode=1777,size=16m');
  list.call('mount', 0, target, 0, MS.REMOUNT | MS.BIND | MS.RDONLY | flags, 0);
}
