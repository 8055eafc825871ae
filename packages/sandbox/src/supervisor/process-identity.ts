import { readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../file-errors.ts';

/** A process, told from any later one of the same number. */
export interface ProcessIdentity {
  pid: number;
  parent: number;
  /** Clock ticks from the start of the machine to the start of the process. */
  startTime: string;
  /** Changes with every start of the machine. */
  bootId: string;
}

/** Parses a line of our state files: the boot id, a space, then `/proc/<pid>/stat` as in proc_pid_stat(5). */
export function parseIdentity(line: string): ProcessIdentity | undefined {
  const space = line.indexOf(' ');
  // The command name is in brackets and may itself hold brackets and spaces.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const [, parent] = fields;
  const startTime = fields[19];
  const pid = Number.parseInt(line.slice(space + 1), 10);
  if (space < 1 || !(pid > 0) || parent === undefined || startTime === undefined) return undefined;
  return { pid, parent: Number(parent), startTime, bootId: line.slice(0, space) };
}

/** Whether the very process is still there; a zombie is not. */
export async function isAlive({ pid, startTime, bootId }: ProcessIdentity): Promise<boolean> {
  try {
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    if (boot !== bootId) return false;
    const line = await readFile(`/proc/${pid}/stat`, 'utf8');
    const state = line.slice(line.lastIndexOf(')') + 2)[0];
    return state !== 'Z' && state !== 'X' && parseIdentity(`${boot} ${line}`)?.startTime === startTime;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return false;
    throw error;
  }
}

/** Waits for a process that is about to end. Nothing tells of the end of a process that is no child, so it looks. */
export async function untilGone(identity: ProcessIdentity): Promise<void> {
  while (await isAlive(identity)) await delay(1);
}

/** Sends a signal to the very process; false when it is gone. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  if (!(await isAlive(identity))) return false;
  try {
    return process.kill(identity.pid, signal);
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/** Sends a signal to a process group, or asks with 0 whether there is one; false when it is gone. */
export function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/**
 * Names the file that a process executes, independent of how it is reached; undefined when the process is gone, or is
 * none of ours to look at: whoever loses its parent gets the machine's first process instead.
 */
export async function executableOf(pid: number): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(`/proc/${pid}/exe`);
    return `${dev}:${ino}`;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return undefined;
    throw error;
  }
}
