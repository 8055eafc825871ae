import { seccompProfile } from './seccomp.ts';
import type { Rlimit } from '../machine.ts';
import type { InsideUser } from './rootfs.ts';
import type { ClosurePath, SandboxSpec } from '../sandbox.ts';
import type { HostIds } from './user-ids.ts';

const DEFAULT_TMP_BYTES = 64 * 1024 * 1024;

// What can do harm to the machine or tells of it; as Docker and containerd have them, and besides the kernel's command
// line, which may hold secrets, and what tells where it lies in memory and who has keys.
const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/cmdline',
  '/proc/config.gz',
  '/proc/interrupts',
  '/proc/kallsyms',
  '/proc/kcore',
  '/proc/key-users',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/modules',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/sysrq-trigger',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/firmware',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'];

/** What an OCI configuration depends on beside the spec. */
export interface OciConfigInput {
  spec: SandboxSpec;
  /** The closure's paths that are mounted. */
  mounts: readonly ClosurePath[];
  user: InsideUser;
  /** File of the network namespace to join; undefined: as the spec's network says. */
  networkNamespace: string | undefined;
  /** Ids outside; undefined where there is no user namespace to map them in. */
  hostIds: HostIds | undefined;
  rlimits: readonly Rlimit[];
  oomScoreAdj: number;
  /** Where the spec's private folder lies on this machine. */
  privateSource?: string | undefined;
  /** As `process.arch`. */
  arch: string;
}

/** The `config.json` of a bundle (OCI runtime-spec 1.0.2), its root file system in `rootfs` beside it. */
export function ociConfig(input: OciConfigInput) {
  const { spec, mounts, user, networkNamespace, hostIds, rlimits, oomScoreAdj, arch } = input;
  const mapping = hostIds === undefined ? undefined : idMapping(user, hostIds);
  const namespaces = ['pid', 'mount', 'ipc', 'uts', 'cgroup'];
  if (mapping !== undefined) namespaces.push('user');
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { ...user, umask: 0o022 },
      args: [spec.program, ...spec.argv],
      env: Object.entries({ HOME: '/tmp', ...spec.environment }).map(([name, value]) => `${name}=${value}`),
      cwd: '/',
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
      noNewPrivileges: true,
      oomScoreAdj,
      rlimits: rlimits.map(({ name, value }) => ({ type: `RLIMIT_${name}`, soft: value, hard: value })),
    },
    root: { path: 'rootfs', readonly: true },
    hostname: spec.id,
    mounts: [
      ...systemMounts(spec.resources.tmp ?? DEFAULT_TMP_BYTES),
      storeMount(mounts.length < spec.closure.length),
      ...mounts.map(({ storePath, source }) => ({
        destination: storePath,
        type: 'bind',
        source,
        options: ['bind', 'ro', 'nosuid', 'nodev', 'private'],
      })),
      ...privateMounts(input),
    ],
    linux: {
      namespaces: [...namespaces.map((type) => ({ type })), ...networkOf(spec, networkNamespace)],
      ...(mapping === undefined ? {} : mapping),
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      seccomp: seccompProfile(arch),
    },
  };
}

function networkOf({ network }: SandboxSpec, path: string | undefined): { type: string; path?: string }[] {
  if (network === 'host') return [];
  return [{ type: 'network', ...(path === undefined ? {} : { path }) }];
}

function systemMounts(tmpBytes: number) {
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'mode=755', 'size=64k'] },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=16m'],
    },
    {
      destination: '/tmp',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'nodev', 'mode=1777', `size=${tmpBytes}`],
    },
  ];
}

/**
 * A small tmpfs in which the runtime makes the mount points of the store paths: on disk each would cost more than its
 * mount. `tmpcopyup` fills it with what the root file system has there.
 */
function storeMount(hasLinks: boolean) {
  const options = ['nosuid', 'nodev', 'mode=755', 'size=1m', ...(hasLinks ? ['tmpcopyup'] : [])];
  return { destination: '/nix/store', type: 'tmpfs', source: 'store', options };
}

function privateMounts({ spec: { privateFolder }, privateSource }: OciConfigInput) {
  if (privateFolder === undefined || privateSource === undefined) return [];
  const options = ['bind', 'ro', 'nosuid', 'nodev', 'noexec', 'private'];
  return [{ destination: privateFolder.path, type: 'bind', source: privateSource, options }];
}

/** Only two ids exist inside: root, who sets the sandbox up, and the program's user. All others show as nobody. */
function idMapping(user: InsideUser, { root, user: outside }: HostIds) {
  const map = (inside: number) => [
    { containerID: 0, hostID: root, size: 1 },
    { containerID: inside, hostID: outside, size: 1 },
  ];
  return { uidMappings: map(user.uid), gidMappings: map(user.gid) };
}
