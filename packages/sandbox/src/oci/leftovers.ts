import { readdir, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNexError } from '@nex-nix/errors';
import { SandboxCgroup } from '../cgroup/cgroup.ts';
import type { Hierarchy } from '../cgroup/cgroup-layout.ts';
import { hasErrno } from '../file-errors.ts';
import type { Networks } from '../network/networks.ts';
import { halfFolders, namesIn, removeHalfFolders } from '../sandbox-folder.ts';
import type { CleanOptions, Leftover } from '../sandbox.ts';
import { isAlive, signalProcess } from '../supervisor/process-identity.ts';
import { isSandboxId } from '../validate-spec.ts';
import { SandboxFiles } from './sandbox-files.ts';

/** Whoever makes a sandbox of another state folder has an empty cgroup for it for a moment. */
const CGROUP_AGE_MS = 60_000;

/** Where leftovers are looked for. */
export interface Estate {
  stateDir: string;
  hierarchies: readonly Hierarchy[];
  networks: Networks;
  /** Sandboxes that somebody in this process deals with. */
  inUse: (id: string) => boolean;
}

/** Removes networks that no sandbox of the state folder has, as after a kill at the wrong moment. */
export async function removeLostNetworks({ stateDir, networks }: Pick<Estate, 'networks' | 'stateDir'>): Promise<void> {
  try {
    await networks.clean({ isOwned: (id) => exists(join(stateDir, id)), thorough: false, dryRun: false });
  } catch (error) {
    // It stays written down, and whoever cleans on purpose is told why it cannot be removed.
    if (!isNexError(error)) throw error;
  }
}

/**
 * Finds all that sandboxes which are not alive have left, ended ones with their logs and exit codes included, and removes
 * it unless `dryRun`.
 */
export async function removeLeftovers(estate: Estate, { dryRun, orphaned = false }: CleanOptions): Promise<Leftover[]> {
  const { stateDir, hierarchies, networks } = estate;
  const half = await halfFolders(stateDir);
  const found: Leftover[] = half.map((name) => ({ kind: 'folder', name }));
  if (!dryRun) await removeHalfFolders(stateDir);
  const dead = new Map<string, { files: SandboxFiles; cgroup: SandboxCgroup }>();
  for (const id of (await namesIn(stateDir)).filter(isSandboxId)) {
    const files = new SandboxFiles(stateDir, id);
    if (estate.inUse(id) || (!orphaned && (await isSandboxAlive(files)))) continue;
    const cgroup = new SandboxCgroup(hierarchies, id);
    dead.set(id, { files, cgroup });
    const processes = await cgroup.processes();
    found.push({ kind: 'sandbox', name: files.folder });
    found.push(...processes.map((pid) => ({ kind: 'process' as const, name: String(pid) })));
    if (dryRun) continue;
    const supervisor = orphaned ? await files.supervisor() : undefined;
    if (supervisor !== undefined) await signalProcess(supervisor, 'SIGKILL');
    await cgroup.remove();
  }
  const isOwned = async (id: string) => !dead.has(id) && (estate.inUse(id) || (await exists(join(stateDir, id))));
  const isAbandoned = async ({ id, stateDir: other }: { id: string; stateDir?: string }) =>
    other !== undefined &&
    !(await exists(other)) &&
    (await new SandboxCgroup(hierarchies, id).processes()).length === 0;
  found.push(...(await networks.clean({ isOwned, isAbandoned, thorough: true, dryRun })));
  if (!dryRun) for (const { files } of dead.values()) await files.remove();
  return [...found, ...(await emptyCgroups(estate, dryRun))];
}

/** A warm sandbox lives as long as the process that it belongs to, any other as long as its supervisor. */
async function isSandboxAlive(files: SandboxFiles): Promise<boolean> {
  const keeper = (await files.owner()) ?? (await files.supervisor());
  return keeper !== undefined && (await isAlive(keeper));
}

/** Cgroups have no mark that tells the state folder, so one with processes is somebody else's. */
async function emptyCgroups({ stateDir, hierarchies }: Estate, dryRun: boolean): Promise<Leftover[]> {
  const found: Leftover[] = [];
  for (const parent of new SandboxCgroup(hierarchies, '').parents) {
    for (const id of (await foldersIn(parent)).filter(isSandboxId)) {
      const folder = join(parent, id);
      const cgroup = new SandboxCgroup(hierarchies, id);
      if ((await exists(join(stateDir, id))) || (await cgroup.processes()).length > 0) continue;
      if (!(await isOld(folder))) continue;
      found.push({ kind: 'cgroup', name: folder });
      if (!dryRun) await removeEmpty(folder);
    }
  }
  return found;
}

async function isOld(folder: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(folder)).ctimeMs > CGROUP_AGE_MS;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Somebody may have begun to use it. */
async function removeEmpty(folder: string): Promise<void> {
  for (const below of await foldersIn(folder)) await removeEmpty(join(folder, below));
  try {
    await rmdir(folder);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}

async function foldersIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
