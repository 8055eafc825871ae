import type { Stats } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { demand } from './network-command.ts';

/** Where `ip netns` looks: `ip netns exec <name>` shows what a sandbox' network is like. */
const FOLDER = '/run/netns';

/**
 * What a new network namespace gets besides: a loopback interface that is up, ports below 1024 for everybody, since no
 * program in it has rights over it; no IPv6, which no rule of ours looks at; and no ear for whoever tells of shorter ways.
 * `all` has no say over interfaces that are to come.
 */
const SET_UP = `
ip link set lo up || exit
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
for which in all default; do
  echo 0 >"/proc/sys/net/ipv4/conf/$which/accept_redirects"
  file=/proc/sys/net/ipv6/conf/$which/disable_ipv6
  [ ! -e "$file" ] || echo 1 >"$file" || exit
done
`;

/** The file of the namespace of that name. */
export function namespaceFile(name: string): string {
  return join(FOLDER, name);
}

/** Makes a network namespace that lasts until it is removed. What was there of the same name is removed first. */
export async function makeNamespace(name: string): Promise<void> {
  await removeNamespace(name);
  await makeFolder();
  const file = namespaceFile(name);
  await writeFile(file, '', { flag: 'wx', mode: 0o400 });
  await demand(`make the network namespace "${name}"`, ['unshare', `--net=${file}`, 'sh', '-c', SET_UP]);
}

/** Removes a network namespace; it ends, with its interfaces, when nothing lives in it any more. */
export async function removeNamespace(name: string): Promise<void> {
  const file = namespaceFile(name);
  // What was mounted in another mount namespace goes with the file.
  while (await isMounted(file)) {
    await demand(`remove the network namespace "${name}"`, ['umount', file]);
  }
  await rm(file, { force: true });
}

/** Whether the file is a namespace, rather than what a start that was cut short has left. */
export async function isNamespace(name: string): Promise<boolean> {
  return isMounted(namespaceFile(name));
}

/** Whether a process lives in a namespace that somebody has given a name. */
export async function hasProcesses(name: string): Promise<boolean> {
  const inode = (await statOrUndefined(namespaceFile(name)))?.ino;
  if (inode === undefined) return false;
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    // What this leads to has the number of the namespace, as namespaces(7) says. Processes may go at any moment.
    if ((await statOrUndefined(`/proc/${pid}/ns/net`))?.ino === inode) return true;
  }
  return false;
}

async function statOrUndefined(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return undefined;
    throw error;
  }
}

/** Names of all that begin with a prefix, also of those half made. */
export async function namespacesWith(prefix: string): Promise<string[]> {
  try {
    return (await readdir(FOLDER)).filter((name) => name.startsWith(prefix));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/**
 * As `ip netns` makes it: a mount of its own, shared, since mounts in a folder that is mounted onto itself later can no
 * longer be reached, and would stay for ever.
 */
async function makeFolder(): Promise<void> {
  await mkdir(FOLDER, { recursive: true, mode: 0o755 });
  if (await isMounted(FOLDER)) return;
  await demand(`prepare "${FOLDER}"`, ['mount', '--bind', FOLDER, FOLDER]);
  await demand(`prepare "${FOLDER}"`, ['mount', '--make-shared', FOLDER]);
}

/**
 * Whether what one sees at that path is a mount of its own. A list of mounts alone cannot tell: it also names those that
 * something mounted later has covered, as a new `/run` covers a `/run/netns`. So it is the mount of the opened file that
 * is looked up: proc_pid_fdinfo(5), first and fifth field of proc_pid_mountinfo(5). Our names hold nothing that is escaped
 * there.
 */
async function isMounted(path: string): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
  await using _ = file;
  const [about, mounts] = await Promise.all([
    readFile(`/proc/self/fdinfo/${file.fd}`, 'utf8'),
    readFile('/proc/self/mountinfo', 'utf8'),
  ]);
  const id = /^mnt_id:\s*(\d+)$/m.exec(about)?.[1];
  const mount = mounts.split('\n').find((line) => line.split(' ', 1)[0] === id);
  return mount?.split(' ')[4] === path;
}
