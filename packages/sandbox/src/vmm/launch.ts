import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { findExecutable } from '../find-executable.ts';
import { namespaceFile } from '../network/network-namespace.ts';
import { SandboxError } from '../sandbox-error.ts';
import { identify, type ProcessIdentity } from '../supervisor/process-identity.ts';
import { closedDevices, WITHOUT_RIGHTS } from './rights.ts';
import { VmmProcess } from './vmm-process.ts';

export interface LaunchOptions {
  /** Working folder. */
  folder: string;
  /** Where it is written down who the process is, before it is anything else. Only this process may write there. */
  processFile: string;
  /** User and group that it runs as, without any rights; absent: it stays root and sees to that itself. */
  user?: number;
  /** Files by which it enters its cgroups. */
  cgroupEntries: readonly string[];
  /** Name of its network namespace; absent: one with nothing in it. */
  namespace?: string | undefined;
  /** Files to be seen in other places, in a mount namespace that goes with the process. */
  binds?: readonly { source: string; target: string }[];
  /** Device nodes that the user has to be able to open, and an empty folder for such of its own. */
  devices?: { paths: readonly string[]; folder: string };
  /**
   * A file of the guest's memory, `ram` in an empty folder: in a file system in memory that goes with the process. Has room
   * for so many bytes, and is a copy or empty.
   */
  memory?: { folder: string; bytes: number; copyOf?: string | undefined };
  /** Whether it ends with this process, also when that is killed; it has to have a user. */
  endsWithParent?: boolean;
  /** Descriptors; `pipe`: one whose other end the caller reads. */
  stdout: number | 'ignore';
  stderr: number | 'pipe';
}

/**
 * Becomes the VMM. Every step is undone by the end of the process. Arguments: working folder, file for who it is, folder
 * for devices, user or nothing, folder for memory or nothing, its bytes, what it is a copy of or nothing; then up to a `--` each: files to enter cgroups by; pairs of files to be mounted; devices
 * (path, major, minor); the command.
 */
const SCRIPT = `
set -e
folder=$1 file=$2 devices=$3 user=$4 memory=$5 bytes=$6 copy=$7
shift 7
while [ "$1" != -- ]; do echo 0 >"$1"; shift; done
shift
read -r boot </proc/sys/kernel/random/boot_id
read -r stat <"/proc/$$/stat"
echo "$boot $stat" >"$file.new"
mv "$file.new" "$file"
ulimit -c 0
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
if [ -n "$memory" ]; then
  # In large pages where the kernel has them: fewer page faults, and a quicker copy.
  mount -t tmpfs -o "nosuid,nodev,noexec,mode=711,size=$bytes,huge=always" memory "$memory" 2>/dev/null ||
    mount -t tmpfs -o "nosuid,nodev,noexec,mode=711,size=$bytes" memory "$memory"
  umask 077
  : >"$memory/ram"
  [ -z "$copy" ] || cp "$copy" "$memory/ram"
  chown "$user:$user" "$memory/ram"
fi
[ "$1" = -- ] || mount -t tmpfs -o nosuid,noexec,mode=711,size=64k devices "$devices"
while [ "$1" != -- ]; do
  node=$devices/\${1##*/}
  mknod -m 600 "$node" c "$2" "$3"
  chown "$user:$user" "$node"
  mount --bind "$node" "$1"
  shift 3
done
shift
cd "$folder"
exec "$@"
`;

/**
 * Starts a VMM that outlives this process: in a session, a mount and an IPC namespace of its own, in the cgroups and the
 * network namespace that it is given.
 *
 * @throws SandboxError SANDBOX_VMM_MISSING
 */
export async function launchVmm(command: readonly string[], options: LaunchOptions): Promise<VmmProcess> {
  const { identity, child } = await spawnVmm(command, options);
  return new VmmProcess(identity, child);
}

/** As {@link launchVmm}, for whoever looks after the process in another way. */
export async function spawnVmm(
  command: readonly string[],
  options: LaunchOptions,
): Promise<{ identity: ProcessIdentity; child: ChildProcess }> {
  const { folder, processFile, user, cgroupEntries, namespace, binds = [], devices, memory } = options;
  const nodes = await closedDevices(devices?.paths ?? []);
  const ending = options.endsWithParent === true ? ['--pdeathsig=KILL'] : [];
  const ids =
    user === undefined ? [] : ['setpriv', `--reuid=${user}`, `--regid=${user}`, ...WITHOUT_RIGHTS, ...ending, '--'];
  const room = [memory?.folder ?? '', String(memory?.bytes ?? 0), memory?.copyOf ?? ''];
  const words = [folder, processFile, devices?.folder ?? '', String(user ?? ''), ...room, ...cgroupEntries, '--'];
  for (const { source, target } of binds) words.push(source, target);
  words.push('--');
  for (const { path, major, minor } of nodes) words.push(path, String(major), String(minor));
  words.push('--', ...ids, ...command);
  const isolation = ['unshare', '--mount', '--propagation', 'slave', '--ipc'];
  const enter =
    namespace === undefined ? [...isolation, '--net'] : ['nsenter', `--net=${namespaceFile(namespace)}`, ...isolation];
  const [program = '', ...args] = [...enter, '/bin/sh', '-c', SCRIPT, 'sh', ...words];
  const child = spawn((await findExecutable(program)) ?? program, args, {
    cwd: '/',
    detached: true,
    env: { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin` },
    stdio: ['ignore', options.stdout, options.stderr],
  });
  try {
    await once(child, 'spawn');
  } catch (error) {
    throw new SandboxError('SANDBOX_VMM_MISSING', `Cannot start a virtual machine: "${program}" is not installed`, {
      hint: 'apt-get install util-linux',
      cause: error,
    });
  }
  const pid = child.pid ?? 0;
  // One that has ended already is nobody.
  return { identity: identify(pid) ?? { pid, parent: process.pid, startTime: '', bootId: '' }, child };
}
