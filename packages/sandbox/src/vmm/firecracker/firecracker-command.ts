import { jailBase, NAMES } from './firecracker-files.ts';

/** Highest number of open files: the API, the disks, the tap, a thousand connections to the guest. 2048 by default. */
const OPEN_FILES = 4096;

/** Arguments of Firecracker itself, with paths in its working folder. */
const ARGUMENTS = ['--api-sock', NAMES.api, '--log-path', NAMES.log, '--level', 'Info'];

/** Runs Firecracker as it is, for whoever has given up all rights before. */
export function plainCommand(firecracker: string, id: string): string[] {
  return [firecracker, '--id', id, ...ARGUMENTS];
}

/**
 * Has the jailer run Firecracker, as root. The cgroups are entered before: without `--cgroup` the jailer leaves them alone
 * with version 1, which is why that is what it is told on every machine.
 */
export function jailedCommand(
  firecracker: string,
  id: string,
  { jailer, folder, user }: { jailer: string; folder: string; user: number },
): string[] {
  const options = {
    id,
    'exec-file': firecracker,
    uid: String(user),
    gid: String(user),
    'chroot-base-dir': jailBase(folder),
    'cgroup-version': '1',
    'resource-limit': `no-file=${OPEN_FILES}`,
  };
  const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  return [jailer, ...words, '--', ...ARGUMENTS];
}
