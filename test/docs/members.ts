// The processes of a process namespace, those of namespaces inside it too, as the machine sees them.
import { readdir, readFile, readlink, rmdir } from 'node:fs/promises';
import { join } from 'node:path';

export interface Member {
  pid: number;
  /** Command line; empty for one that has ended. */
  command: string;
  /** Lines of /proc/PID/cgroup. */
  cgroups: string[];
}

const CGROUPS = '/sys/fs/cgroup';
/** The part of the path of a cgroup that all sandboxes have. */
const OURS = '/nex-nix/';

/** All in the namespace of the process `init`. Empty when that has ended. */
export async function membersOf(init: number): Promise<Member[]> {
  const namespace = await readlink(`/proc/${init}/ns/pid`).catch(() => undefined);
  if (namespace === undefined) return [];
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0);
  const members = new Set<number>();
  const parents = new Map<number, number>();
  for (const pid of pids) {
    if ((await readlink(`/proc/${pid}/ns/pid`).catch(() => '')) === namespace) members.add(pid);
    parents.set(pid, Number(/^PPid:\s*(\d+)/m.exec(await readProc(pid, 'status'))?.[1] ?? 0));
  }
  // A sandbox has a namespace of its own, and its parent in this one.
  const isMember = (pid: number): boolean => pid > 1 && (members.has(pid) || isMember(parents.get(pid) ?? 0));
  return Promise.all(
    pids.filter(isMember).map(async (pid) => ({
      pid,
      command: (await readProc(pid, 'cmdline')).replaceAll('\0', ' ').trim(),
      cgroups: (await readProc(pid, 'cgroup')).trim().split('\n'),
    })),
  );
}

/** Removes what sandboxes of processes that were killed have left below /sys/fs/cgroup. */
export async function removeCgroups(members: readonly Member[]): Promise<void> {
  const folders = members.flatMap(({ cgroups }) => cgroups.flatMap(foldersOf));
  for (const folder of new Set(folders)) {
    await rmdir(folder).catch((error: unknown) => {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      // Gone already, or in one of the layouts that this machine has not.
      if (!['ENOENT', 'EBUSY', 'ENOTEMPTY'].includes(code)) throw error;
    });
  }
}

/** Where the cgroup of a line may be: version 1 has a folder for each controller, version 2 one of its own or the whole tree. */
function foldersOf(line: string): string[] {
  const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
  if (!path.includes(OURS)) return [];
  return [controllers, 'unified', ''].map((folder) => join(CGROUPS, folder, path));
}

async function readProc(pid: number, name: string): Promise<string> {
  return readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '');
}
