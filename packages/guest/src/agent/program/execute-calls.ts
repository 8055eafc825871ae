import type { Cgroup } from './cgroup.ts';
import { SyscallError } from '../kernel/run-syscalls.ts';
import { AT_FDCWD, SyscallList } from '../kernel/syscall-list.ts';
import { REPORT_FD } from '../kernel/syscall-machine.ts';
import { refused } from '../refused.ts';
import type { GuestErrorCodeOnWire } from '../../protocol/messages.ts';

const [F_SETFD, FD_CLOEXEC, O_PATH, O_CLOEXEC] = [2, 1, 0o10_000_000, 0o2_000_000];
const [PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL] = [24, 38, 47, 4];
const [LAST_CAPABILITY, CAPABILITY_VERSION_3] = [63, 0x2008_0522];
const UMASK = 0o022;

/** When memory is short a program goes before the agent, and before what else the guest has. */
const OOM_SCORE_ADJ = 500;

/**
 * Limits of getrlimit(2), by number (`asm-generic/resource.h`), of what the kernel counts by user, whatever the cgroup
 * says: core dumps, open files, locked memory, pending signals, message queues, priorities.
 */
const RLIMITS: readonly (readonly [resource: number, value: number])[] = [
  [4, 0],
  [7, 65_536],
  [8, 8 << 20],
  [11, 16_384],
  [12, 800 << 10],
  [13, 0],
  [14, 0],
];

/** One program to be executed. */
export interface Execution {
  root: string;
  cgroup: Cgroup;
  uid: number;
  gid: number;
  program: string;
  argv: readonly string[];
  environment: Readonly<Record<string, string>>;
}

/**
 * The calls that make a process of the agent's, root with all rights, the program: in its cgroup, under its limits, in
 * its root, as its user, with no right and no descriptor but the first three.
 */
export function executeCalls({ root, cgroup, uid, gid, program, argv, environment }: Execution): SyscallList {
  const list = new SyscallList()
    .write(cgroup.procs, '0')
    .write('/proc/self/oom_score_adj', String(OOM_SCORE_ADJ))
    .call('fcntl', REPORT_FD, F_SETFD, FD_CLOEXEC)
    .call('close_range', REPORT_FD + 1, 0xffff_ffff, 0);
  for (const [resource, value] of RLIMITS) {
    const limit = Buffer.alloc(16);
    limit.writeBigUInt64LE(BigInt(value), 0);
    limit.writeBigUInt64LE(BigInt(value), 8);
    // Who lacks the right to raise one has a lower one already.
    list.attempt('prlimit64', 0, resource, limit, 0);
  }
  list.call('chroot', root).call('chdir', '/');
  // Kernels know different numbers of them.
  for (let right = 0; right <= LAST_CAPABILITY; right++) list.attempt('prctl', PR_CAPBSET_DROP, right, 0, 0, 0);
  const [header, none] = [Buffer.alloc(8), Buffer.alloc(24)];
  header.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  const env = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  return list
    .call('prctl', PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    .call('setgroups', 0, 0)
    .call('setresgid', gid, gid, gid)
    .call('setresuid', uid, uid, uid)
    .call('capset', header, none)
    .call('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    .call('umask', UMASK)
    .call('openat', AT_FDCWD, program, O_PATH | O_CLOEXEC, 0)
    .call('execve', program, [program, ...argv], env);
}

/** What the answer says of a program that could not be executed. */
export function executionRefused(program: string, error: unknown): unknown {
  if (!(error instanceof SyscallError)) return error;
  const { call, code, text } = error;
  const refuse = (wire: GuestErrorCodeOnWire, why: string) =>
    refused(wire, `Cannot execute "${program}": ${why}`, { cause: error });
  if (call === 'openat' && text === `openat ${JSON.stringify(program)}`) {
    return refuse('program-not-found', code === 'ENOENT' ? 'there is no such file' : code);
  }
  if (call !== 'execve') return refuse('failed', error.message);
  switch (code) {
    case 'ENOENT':
      return refuse('program-not-executable', 'the interpreter or dynamic loader that it names is not there');
    case 'E2BIG':
      return refuse('invalid', 'its arguments and environment are too long');
    case 'EACCES':
    case 'EPERM':
      return refuse('program-not-executable', 'it is no file that may be executed');
    case 'ENOMEM':
    case 'EAGAIN':
      return refuse('failed', code);
    default:
      return refuse('program-not-executable', code === 'ENOEXEC' ? 'it is no program for this machine' : code);
  }
}
