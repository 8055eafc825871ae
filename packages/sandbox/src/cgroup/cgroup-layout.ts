/** What we limit or measure; `cpuacct` is a controller of its own in version 1 only. */
export type Controller = 'memory' | 'pids' | 'cpu' | 'cpuacct';

/** One mounted cgroup tree with the controllers of it that concern us. */
export interface Hierarchy {
  version: 1 | 2;
  mountPoint: string;
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

/**
 * How cgroups are mounted: version 2 alone, version 1, both (hybrid: only its version 1 part is used), or not at all.
 *
 * @param mountinfo Text of `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
 * @param v2Controllers Text of `cgroup.controllers` at the root of the version 2 mount.
 */
export function parseCgroupLayout(mountinfo: string, v2Controllers: string): CgroupLayout {
  const mounts = cgroupMounts(mountinfo);
  const v1 = new Map<string, Hierarchy>();
  for (const { type, mountPoint, options } of mounts) {
    const controllers = V1_CONTROLLERS.filter((controller) => options.includes(controller));
    if (type !== 'cgroup' || controllers.length === 0) continue;
    // The same tree may be mounted twice (`cpu,cpuacct` often is); the first mount serves.
    const key = controllers.join();
    if (!v1.has(key)) v1.set(key, { version: 1, mountPoint, controllers });
  }
  const v2 = mounts.find(({ type }) => type === 'cgroup2')?.mountPoint;
  if (v1.size > 0) return { hierarchies: [...v1.values()], ...(v2 === undefined ? {} : { hide: v2 }) };
  if (v2 === undefined) return { hierarchies: [] };
  const present = v2Controllers.trim().split(/\s+/);
  return {
    hierarchies: [{ version: 2, mountPoint: v2, controllers: V2_CONTROLLERS.filter((name) => present.includes(name)) }],
  };
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
