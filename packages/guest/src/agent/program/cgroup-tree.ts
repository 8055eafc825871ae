import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Cgroup } from './cgroup.ts';
import type { Kernel } from '../kernel/run-syscalls.ts';
import { SyscallList } from '../kernel/syscall-list.ts';
import { hasCode } from '../refused.ts';

const MOUNT_POINT = '/sys/fs/cgroup';

/** Where the agent itself goes: with processes of its own, a cgroup other than the root hands no controllers down. */
const AGENT = 'agent';

const CONTROLLERS = ['memory', 'pids', 'cpu'];

/** Our part of the tree of control groups (version 2): all of it in the minimal guest, our unit's under systemd. */
export class CgroupTree {
  readonly #base: string;

  private constructor(base: string) {
    this.#base = base;
  }

  /** Mounts the tree unless it is there, and hands controllers down. */
  static open(kernel: Kernel): CgroupTree {
    const mounted = findMount();
    if (mounted === undefined) kernel.run(new SyscallList().call('mount', 'cgroup2', MOUNT_POINT, 'cgroup2', 0, 0));
    const { folder, root } = mounted ?? { folder: MOUNT_POINT, root: '/' };
    const base = join(folder, relative(root, ownPath()));
    handDown(base);
    return new CgroupTree(base);
  }

  /** A new, empty one. An old one of that name goes, unless something is alive in it. */
  make(name: string): Cgroup {
    const folder = join(this.#base, name);
    if (existsSync(folder)) rmdirSync(folder);
    mkdirSync(folder);
    return new Cgroup(folder);
  }
}

function findMount(): { folder: string; root: string } | undefined {
  // See proc_pid_mountinfo(5): root, mount point, options, optional fields, a dash, type.
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/^\S+ \S+ \S+ (\S+) (\S+) .* - cgroup2 /gm);
  for (const [, root = '', folder = ''] of lines) {
    // Others lie below something that was mounted later.
    if (existsSync(join(folder, 'cgroup.procs'))) return { root, folder };
  }
  return undefined;
}

function ownPath(): string {
  return /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
}

function handDown(base: string): void {
  // Only the root of the tree has no such file.
  if (existsSync(join(base, 'cgroup.type'))) {
    const own = join(base, AGENT);
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, 'cgroup.procs'), String(process.pid));
  }
  for (const controller of CONTROLLERS) {
    try {
      writeFileSync(join(base, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      // This kernel does not have it. Who asks for a limit that needs it is refused.
      if (!hasCode(error, 'ENOENT', 'EINVAL', 'EBUSY', 'EOPNOTSUPP')) throw error;
    }
  }
}
