import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';

const KILL_TIMEOUT_MS = 10_000;

/** Process ids, as this machine numbers them, of everything in some cgroups and in those below them. */
export async function processesIn(folders: readonly string[]): Promise<number[]> {
  const pids = new Set<number>();
  for (const folder of folders) {
    for (const cgroup of [folder, ...(await cgroupsBelow(folder))]) {
      const text = await readOrUndefined(join(cgroup, 'cgroup.procs'));
      for (const pid of parsePids(text ?? '')) pids.add(pid);
    }
  }
  return [...pids];
}

/**
 * Kills everything in some cgroups and in those below them, and waits until they are empty.
 *
 * @param what What it is, for the error.
 * @throws SandboxError SANDBOX_STOP_FAILED
 */
export async function killAll(folders: readonly string[], what: string): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
    const alive = await processesIn(folders);
    if (alive.length === 0) return;
    if (Date.now() > deadline) {
      throw new SandboxError(
        'SANDBOX_STOP_FAILED',
        `Cannot stop ${what}: processes ${alive.join(', ')} are alive after SIGKILL`,
        { hint: `ps -o pid,stat,wchan,args -p ${alive.join(',')}` },
      );
    }
    // Takes all at once, those too that are being forked; Linux 5.14, version 2.
    for (const folder of folders) await writeIfThere(join(folder, 'cgroup.kill'), '1');
    for (const pid of alive) sigkill(pid);
    await delay(pause);
  }
}

/** Removes an empty cgroup and those below it. */
export async function removeCgroup(folder: string): Promise<void> {
  for (const below of await cgroupsBelow(folder)) await removeOne(below);
  await removeOne(folder);
}

/** The cgroups right below one; none when it is not there. */
export async function cgroupsBelow(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** 0 stands for a process outside our pid namespace; as an argument of kill it would mean ourselves. */
export function parsePids(text: string): number[] {
  return text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
}

/** Text of a cgroup's file; undefined when it, or its cgroup, is not there. */
async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}

/** Writes to a file that not every kernel has. */
export async function writeIfThere(file: string, value: string): Promise<void> {
  try {
    await writeFile(file, value, { flag: 'r+' });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

function sigkill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}

/** Removes a cgroup unless there are cgroups or processes in it. */
export async function removeUnused(folder: string): Promise<void> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    if (entries.some((entry) => entry.isDirectory())) return;
    if ((await readFile(join(folder, 'cgroup.procs'), 'utf8')) !== '') return;
    await removeOne(folder);
  } catch (error) {
    // Somebody else removed it, or began to use it.
    if (!hasErrno(error, 'ENOENT', 'ENODEV', 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}

/** rmdir of a cgroup says EBUSY for a moment after its last process, or the last cgroup in it, has gone. */
async function removeOne(folder: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await rmdir(folder);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return;
      if (!hasErrno(error, 'EBUSY') || attempt === 50) throw error;
    }
    await delay(10);
  }
}
