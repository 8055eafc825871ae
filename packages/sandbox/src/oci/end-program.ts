import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { identify, type ProcessIdentity, readProc, sendSignal, signalProcess } from '../supervisor/process-identity.ts';

/** Signals that do not end a process which leaves them to the kernel (signal(7)). */
const HARMLESS = ['SIGCHLD', 'SIGCONT', 'SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGURG', 'SIGWINCH'];

const LOOK_INTERVAL_MS = 10;

/** Time for a first process to end by itself once the last of its children that handled the signal has. */
const LAST_WORD_MS = 100;

/** What a process does about a signal. */
type Disposition = 'default' | 'handles' | 'ignores';

/**
 * Asks a sandbox to end, and waits up to `graceMs` for it; whether it has ended is seen elsewhere.
 *
 * The kernel spares the first process of a pid namespace what it has no handler for, so a signal that would end any
 * other program does nothing to one that is first in its sandbox. What the signal means for such a program is done here:
 * the others get it and have the grace to deal with it, and then the first is killed.
 */
export async function endProgram(
  program: ProcessIdentity,
  { cgroup, signal, graceMs, ended }: EndOptions,
): Promise<void> {
  const first = dispositionOf(program.pid, signal);
  if (first !== 'default' || HARMLESS.includes(signal)) {
    if (await signalProcess(program, signal)) await within(graceMs, ended);
    return;
  }
  const deadline = Date.now() + graceMs;
  const handlers: ProcessIdentity[] = [];
  for (const pid of await cgroup.processes()) {
    if (pid === program.pid || pid === program.parent) continue;
    const child = identify(pid);
    if (child !== undefined && dispositionOf(pid, signal) === 'handles') handlers.push(child);
    sendSignal(pid, signal);
  }
  while (handlers.some(isThere) && Date.now() < deadline) {
    await within(Math.min(LOOK_INTERVAL_MS, deadline - Date.now()), ended);
    if (ended.aborted) return;
  }
  if (handlers.length > 0) await within(Math.min(LAST_WORD_MS, Math.max(0, deadline - Date.now())), ended);
}

export interface EndOptions {
  cgroup: SandboxCgroup;
  signal: NodeJS.Signals;
  graceMs: number;
  /** Aborted when the sandbox has ended. */
  ended: AbortSignal;
}

/**
 * Reads it off the masks in `/proc/<pid>/status` (proc_pid_status(5)). A blocked signal counts as handled: a process
 * blocks what it waits for in another way.
 */
function dispositionOf(pid: number, signal: NodeJS.Signals): Disposition | undefined {
  const status = readProc(`${pid}/status`);
  if (status === undefined) return undefined;
  const bit = 1n << BigInt(constants.signals[signal] - 1);
  const has = (mask: string) => {
    const [, value = '0'] = new RegExp(`^${mask}:\\t([0-9a-f]+)$`, 'm').exec(status) ?? [];
    return (BigInt(`0x${value}`) & bit) !== 0n;
  };
  if (has('SigIgn')) return 'ignores';
  return has('SigCgt') || has('SigBlk') ? 'handles' : 'default';
}

function isThere({ pid, startTime }: ProcessIdentity): boolean {
  return identify(pid)?.startTime === startTime;
}

/** Resolves after a time, or when the sandbox has ended. */
async function within(ms: number, ended: AbortSignal): Promise<void> {
  if (ended.aborted) return;
  await delay(ms, undefined, { signal: ended }).catch(() => undefined);
}
