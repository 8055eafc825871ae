import { join } from 'node:path';

/** What we limit or measure; `cpuacct` is a controller of its own in version 1 only. */
export type Controller = 'memory' | 'pids' | 'cpu' | 'cpuacct';

/** One mounted cgroup tree with the controllers of it that concern us. */
export interface Hierarchy {
  version: 1 | 2;
  mountPoint: string;
  /** The cgroup that holds everything of ours. */
  parent: string;
  controllers: readonly Controller[];
}

export interface CgroupLayout {
  hierarchies: readonly Hierarchy[];
  /**
   * Version 2 mount of a hybrid layout. crun refuses to run ("cgroups in hybrid mode not supported") while it sees a
   * version 2 tree that owns a controller beside version 1 trees, so this one is taken out of its sight.
   */
  hide?: string;
}

const V1_CONTROLLERS: readonly Controller[] = ['memory', 'pids', 'cpu', 'cpuacct'];
const V2_CONTROLLERS: readonly Controller[] = ['memory', 'pids', 'cpu'];

/** Name of the cgroup that holds everything of ours. */
const PARENT = 'nex-nix';

/**
 * How cgroups are mounted: version 2 alone, version 1, both (hybrid: each for the controllers that it owns; version 2
 * comes first), or not at all.
 *
 * @param mountinfo Text of `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
 * @param v2Controllers Text of `cgroup.controllers` at the root of the version 2 mount.
 * @param below The cgroup that ours is put in, from the root of each tree.
 */
export function parseCgroupLayout(mountinfo: string, v2Controllers: string, below = '/'): CgroupLayout {
  const mounts = cgroupMounts(mountinfo);
  const v1 = new Map<string, Hierarchy>();
  for (const { type, mountPoint, options } of mounts) {
    const controllers = V1_CONTROLLERS.filter((controller) => options.includes(controller));
    if (type !== 'cgroup' || controllers.length === 0) continue;
    // The same tree may be mounted twice (`cpu,cpuacct` often is); the first mount serves.
    const key = controllers.join();
    if (!v1.has(key)) v1.set(key, { version: 1, mountPoint, parent: join(mountPoint, below, PARENT), controllers });
  }
  const mountPoint = mounts.find(({ type }) => type === 'cgroup2')?.mountPoint;
  if (mountPoint === undefined) return { hierarchies: [...v1.values()] };
  const present = v2Controllers.trim().split(/\s+/);
  const controllers = V2_CONTROLLERS.filter((name) => present.includes(name));
  const v2: Hierarchy = { version: 2, mountPoint, parent: join(mountPoint, below, PARENT), controllers };
  if (v1.size === 0) return { hierarchies: [v2] };
  return { hierarchies: [...(controllers.length === 0 ? [] : [v2]), ...v1.values()], hide: mountPoint };
}

/**
 * Name of the file that a process of one thread enters a cgroup by, writing `0`. To `cgroup.procs` the kernel lets it wait
 * for an RCU grace period, 10 to 20 ms, unless somebody did the same a moment before; to `tasks`, which only version 1
 * has, it does not (`cgroup_procs_write_start()`: whoever moves itself alone needs no lock).
 */
export function entryFile(hierarchies: readonly Hierarchy[]): string {
  return hierarchies[0]?.version === 1 ? 'tasks' : 'cgroup.procs';
}

/** Where the version 2 tree is mounted, if it is. */
export function v2MountPoint(mountinfo: string): string | undefined {
  return cgroupMounts(mountinfo).find(({ type }) => type === 'cgroup2')?.mountPoint;
}

function cgroupMounts(mountinfo: string) {
  return mountinfo.split('\n').flatMap((line) => {
    const [mount = '', filesystem = ''] = line.split(' - ');
    const [type = '', , options = ''] = filesystem.split(' ');
    const mountPoint = mount.split(' ')[4];
    if (mountPoint === undefined || (type !== 'cgroup' && type !== 'cgroup2')) return [];
    return [{ type, mountPoint: unescape(mountPoint), options: options.split(',') }];
  });
}

/** mountinfo writes space, tab, newline and backslash as three octal digits. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
