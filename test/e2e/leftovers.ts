import { readdir, readFile, readlink } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

/** What a run may leave behind on a machine. */
export interface Traces {
  processes: string[];
  mounts: string[];
  cgroups: string[];
  interfaces: string[];
}

/**
 * Everything on this machine that bears a mark: processes whose command line, environment or working directory names
 * it, mounts and cgroups whose path does. Network interfaces are listed whole.
 */
export async function findTraces(marks: readonly string[]): Promise<Traces> {
  const marked = (text: string): boolean => marks.some((mark) => text.includes(mark));
  return {
    processes: await markedProcesses(marked),
    mounts: (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(marked),
    cgroups: await markedCgroups(marked),
    interfaces: Object.keys(networkInterfaces()).sort(),
  };
}

async function markedProcesses(marked: (text: string) => boolean): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await pids()) {
    if (pid === process.pid) continue;
    const [command, environment, folder] = await Promise.all([
      readProc(`/proc/${pid}/cmdline`),
      readProc(`/proc/${pid}/environ`),
      readlink(`/proc/${pid}/cwd`).catch(() => ''),
    ]);
    if (marked(command) || marked(environment) || marked(folder)) found.push(`${pid} ${command.replaceAll('\0', ' ')}`);
  }
  return found;
}

export async function pids(): Promise<number[]> {
  return (await readdir('/proc')).map(Number).filter((pid) => pid > 0);
}

/** A file of /proc, or nothing when its process has just ended. */
export async function readProc(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

async function markedCgroups(marked: (text: string) => boolean): Promise<string[]> {
  const found: string[] = [];
  const visit = async (folder: string, depth: number): Promise<void> => {
    for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
      if (!entry.isDirectory()) continue;
      const path = join(folder, entry.name);
      if (marked(path)) found.push(path);
      if (depth > 0) await visit(path, depth - 1);
    }
  };
  await visit('/sys/fs/cgroup', 4);
  return found;
}
