import { readFileSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
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

let bootId: string | undefined;

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

/** Who has a process id now; undefined when it is nobody, or a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const line = readProc(`${pid}/stat`);
  const state = line?.slice(line.lastIndexOf(')') + 2)[0];
  if (line === undefined || state === 'Z' || state === 'X') return undefined;
  bootId ??= readProc('sys/kernel/random/boot_id')?.trim() ?? '';
  return parseIdentity(`${bootId} ${line}`);
}

/**
 * Who is the first process of a sandbox, by the process id that the OCI runtime wrote down: undefined when that is no
 * first process of a pid namespace, or not in the sandbox' cgroup, nor started by its supervisor's child: then the
 * number belongs to somebody else by now.
 */
export function identifyFirst(
  pid: number,
  { id, supervisor }: { id: string; supervisor: ProcessIdentity },
): ProcessIdentity | undefined {
  const identity = identify(pid);
  if (identity === undefined || identity.bootId !== supervisor.bootId) return undefined;
  if (!/^NSpid:.*\t1$/m.test(readProc(`${pid}/status`) ?? '')) return undefined;
  const isInCgroup = readProc(`${pid}/cgroup`)
    ?.split('\n')
    .some((line) => line.endsWith(`/nex-nix/${id}`));
  return isInCgroup === true || identify(identity.parent)?.parent === supervisor.pid ? identity : undefined;
}

/** Whether the very process is still there; a zombie is not. */
export async function isAlive({ pid, startTime, bootId: boot }: ProcessIdentity): Promise<boolean> {
  const present = identify(pid);
  return present?.startTime === startTime && present.bootId === boot;
}

/** Waits for a process that is about to end. Nothing tells of the end of a process that is no child, so it looks. */
export async function untilGone(identity: ProcessIdentity): Promise<void> {
  while (await isAlive(identity)) await delay(1);
}

/** Sends a signal to the very process; false when it is gone. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  return (await isAlive(identity)) && sendSignal(identity.pid, signal);
}

/** Sends a signal to a process group, or asks with 0 whether there is one; false when it is gone. */
export function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  return sendSignal(-group, signal);
}

/** Sends a signal as kill(2) does; false when nobody is there. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
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

/** A file of `/proc`; undefined when it is not there, as when its process has gone. */
export function readProc(name: string): string | undefined {
  try {
    return readFileSync(`/proc/${name}`, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** Lets the out-of-memory killer take a process last, but for what the machine itself has spared. */
export function spareFromOutOfMemory(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, '0');
  } catch (error) {
    // EACCES where that would be less than its node has.
    if (!hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) throw error;
  }
}
