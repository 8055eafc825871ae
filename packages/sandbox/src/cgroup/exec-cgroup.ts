import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { entryFile, type Hierarchy } from './cgroup-layout.ts';
import { hasErrno } from '../file-errors.ts';
import { cgroupsBelow, killAll, removeCgroup, writeIfThere } from './processes.ts';

/** Begins the names of the cgroups that commands have in their sandbox's. */
const PREFIX = 'exec-';

/**
 * Where one more command of a sandbox runs: below the sandbox's cgroup, so that its limits hold and its end takes it
 * along, and apart, so that whatever the command starts can be told from the rest and killed.
 *
 * Only in one hierarchy; in the others a cgroup of the command's own would serve nothing.
 */
export class ExecCgroup {
  /** The files by which its first process, of one thread, enters its cgroups, writing `0`. */
  readonly entries: readonly string[];
  readonly #own: string;

  private constructor(own: string, entries: readonly string[]) {
    this.#own = own;
    this.entries = entries;
  }

  /**
   * @param folderOf The sandbox's cgroup in a hierarchy.
   * @returns undefined when the sandbox has no cgroup: any more, or on a machine without them.
   */
  static async make(
    hierarchies: readonly Hierarchy[],
    folderOf: (hierarchy: Hierarchy) => string,
    name: string,
  ): Promise<ExecCgroup | undefined> {
    const tracking = trackingHierarchy(hierarchies);
    if (tracking === undefined) return undefined;
    const own = join(folderOf(tracking), `${PREFIX}${name}`);
    try {
      await mkdir(own);
    } catch (error) {
      // The sandbox has ended meanwhile.
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    const entries = hierarchies.map((hierarchy) =>
      join(hierarchy === tracking ? own : folderOf(hierarchy), entryFile([hierarchy])),
    );
    return new ExecCgroup(own, entries);
  }

  /** Kills the command and all that it started; resolves when nothing of it is alive. */
  async kill(): Promise<void> {
    await killCommand(this.#own);
  }

  async remove(): Promise<void> {
    await removeCgroup(this.#own);
  }
}

/** Ends the commands of a sandbox whose nobody waits for any more. */
export async function killCommands(
  hierarchies: readonly Hierarchy[],
  folderOf: (hierarchy: Hierarchy) => string,
): Promise<void> {
  for (const hierarchy of hierarchies) {
    const below = await cgroupsBelow(folderOf(hierarchy));
    for (const folder of below) {
      await killCommand(folder);
      await removeCgroup(folder);
    }
  }
}

/** Without the limit, one that forks on and on could outrun the signals of version 1. */
async function killCommand(folder: string): Promise<void> {
  await writeIfThere(join(folder, 'pids.max'), '0');
  await killAll([folder], `the command in "${folder}"`);
}

/** Version 2 kills a cgroup as a whole; in version 1 only the controller of processes can stop it from forking. */
function trackingHierarchy(hierarchies: readonly Hierarchy[]): Hierarchy | undefined {
  return (
    hierarchies.find(({ version }) => version === 2) ??
    hierarchies.find(({ controllers }) => controllers.includes('pids')) ??
    hierarchies[0]
  );
}
