import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CgroupLayout, parseCgroupLayout, v2MountPoint } from './cgroup/cgroup-layout.ts';
import { hasErrno } from './file-errors.ts';
import { type IdExtent, parseIdMap } from './bundle/user-ids.ts';

/**
 * What a program may have of things that the kernel counts by user, whatever its cgroup allows: open files, and memory
 * outside of any other limit (locked pages, message queues, pending signals); no core dumps, which would be written by
 * this machine and to wherever its core_pattern says; no priority over others.
 */
const WANTED_RLIMITS: readonly (readonly [name: string, inLimits: string, value: number])[] = [
  ['CORE', 'Max core file size', 0],
  ['MEMLOCK', 'Max locked memory', 8 << 20],
  ['MSGQUEUE', 'Max msgqueue size', 800 << 10],
  ['NICE', 'Max nice priority', 0],
  ['NOFILE', 'Max open files', 65_536],
  ['RTPRIO', 'Max realtime priority', 0],
  ['SIGPENDING', 'Max pending signals', 16_384],
];

/**
 * Half of a memory limit, so that in a sandbox whose memory is used up by files in `/tmp` the program is killed and not
 * the OCI runtime that waits for it; and on a machine out of memory, workloads go before what serves them all.
 */
const OOM_SCORE_ADJ = 500;

/** One of getrlimit(2), the same soft and hard. */
export interface Rlimit {
  /** Its name without `RLIMIT_`. */
  name: string;
  value: number;
}

/** What this machine offers to sandboxes. */
export interface Machine {
  uid: number;
  cgroups: CgroupLayout;
  userNamespaces: boolean;
  /** User ids that exist in this process' own user namespace; group ids are taken to be the same. */
  idExtents: readonly IdExtent[];
  /** What a program is given. */
  rlimits: readonly Rlimit[];
  /** How readily the kernel kills a program for want of memory, see proc_pid_oom_score_adj(5). */
  oomScoreAdj: number;
}

/** Reads it all from `/proc`. `cgroupParent`: the cgroup that all sandboxes are put below. */
export async function inspectMachine({
  cgroupParent = '/',
}: { cgroupParent?: string | undefined } = {}): Promise<Machine> {
  const [mountinfo, idMap, maxUserNamespaces, limits, oomScoreAdj] = await Promise.all([
    readOrEmpty('/proc/self/mountinfo'),
    readOrEmpty('/proc/self/uid_map'),
    readOrEmpty('/proc/sys/user/max_user_namespaces'),
    readOrEmpty('/proc/self/limits'),
    readOrEmpty('/proc/self/oom_score_adj'),
  ]);
  const v2 = v2MountPoint(mountinfo);
  const v2Controllers = v2 === undefined ? '' : await readOrEmpty(join(v2, 'cgroup.controllers'));
  return {
    uid: process.getuid?.() ?? -1,
    cgroups: parseCgroupLayout(mountinfo, v2Controllers, cgroupParent),
    userNamespaces: Number(maxUserNamespaces) > 0,
    idExtents: parseIdMap(idMap),
    rlimits: allowedRlimits(limits),
    // Less than this process has itself would need a right that root in a container often lacks.
    oomScoreAdj: Math.max(OOM_SCORE_ADJ, Number(oomScoreAdj)),
  };
}

/**
 * The wanted limits, none above the one that this process has: to raise it takes a right that root in a container often
 * lacks.
 *
 * @param limits Text of `/proc/self/limits`.
 */
export function allowedRlimits(limits: string): Rlimit[] {
  return WANTED_RLIMITS.map(([name, inLimits, wanted]) => {
    const hard = new RegExp(String.raw`^${inLimits}\s+\S+\s+(\d+)`, 'm').exec(limits)?.[1];
    return { name, value: hard === undefined ? wanted : Math.min(wanted, Number(hard)) };
  });
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES', 'ENODEV')) return '';
    throw error;
  }
}
