import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CgroupLayout, parseCgroupLayout, v2MountPoint } from './cgroup/cgroup-layout.ts';
import { hasErrno } from './file-errors.ts';
import { type IdExtent, parseIdMap } from './bundle/user-ids.ts';

const WANTED_FILES = 65_536;

/**
 * Half of a memory limit, so that in a sandbox whose memory is used up by files in `/tmp` the program is killed and not
 * the OCI runtime that waits for it; and on a machine out of memory, workloads go before what serves them all.
 */
const OOM_SCORE_ADJ = 500;

/** What this machine offers to sandboxes. */
export interface Machine {
  uid: number;
  cgroups: CgroupLayout;
  userNamespaces: boolean;
  /** User ids that exist in this process' own user namespace; group ids are taken to be the same. */
  idExtents: readonly IdExtent[];
  /** Highest number of open files that a program may be given. */
  maxFiles: number;
  /** How readily the kernel kills a program for want of memory, see proc_pid_oom_score_adj(5). */
  oomScoreAdj: number;
}

/** Reads it all from `/proc`. */
export async function inspectMachine(): Promise<Machine> {
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
    cgroups: parseCgroupLayout(mountinfo, v2Controllers),
    userNamespaces: Number(maxUserNamespaces) > 0,
    idExtents: parseIdMap(idMap),
    maxFiles: parseMaxFiles(limits),
    // Less than this process has itself would need a right that root in a container often lacks.
    oomScoreAdj: Math.max(OOM_SCORE_ADJ, Number(oomScoreAdj)),
  };
}

/** More than this process itself may have open needs a right that root in a container often lacks. */
export function parseMaxFiles(limits: string): number {
  const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1];
  return hard === undefined ? WANTED_FILES : Math.min(WANTED_FILES, Number(hard));
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES', 'ENODEV')) return '';
    throw error;
  }
}
