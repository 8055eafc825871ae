import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { devPaths } from './dev-paths.ts';
import { endOrphans, findOrphans } from './supervisor/end-orphans.ts';
import { isFolderLocked, lockFolder } from './folder-lock.ts';

/** What killed dev services have left running or lying about. */
export interface DevLeftover {
  kind: 'process' | 'socket';
  /** Process id, or path. */
  name: string;
}

export function areDevServicesRunning(dataDir: string): boolean {
  return isFolderLocked(devPaths(resolve(dataDir)).lock);
}

/** State folder of the node that dev services run. */
export function devNodeFolder(dataDir: string): string {
  return devPaths(resolve(dataDir)).node;
}

/**
 * Removes what dev services that are gone have left: processes, and the control socket. What they keep stays, and all of those that run.
 *
 * @returns what there was; with `dryRun` it is all still there
 */
export async function cleanDevServices(
  dataDir: string,
  { dryRun, signal }: { dryRun: boolean; signal?: AbortSignal | undefined },
): Promise<DevLeftover[]> {
  const folder = resolve(dataDir);
  const { lock, socket } = devPaths(folder);
  if (!existsSync(lock) || areDevServicesRunning(folder)) return [];
  using _lock = dryRun ? undefined : await lockFolder(lock, folder);
  const orphans = await findOrphans(folder);
  const found: DevLeftover[] = [
    ...orphans.map(({ pid }) => ({ kind: 'process' as const, name: String(pid) })),
    ...(existsSync(socket) ? [{ kind: 'socket' as const, name: socket }] : []),
  ];
  if (dryRun) return found;
  await endOrphans(folder, { signal });
  await rm(socket, { force: true });
  return found;
}
