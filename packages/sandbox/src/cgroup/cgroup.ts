import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { CgroupLayout, Controller, Hierarchy } from './cgroup-layout.ts';
import { limitWrites, pidsLimit } from './cgroup-limits.ts';
import { ExecCgroup, killCommands } from './exec-cgroup.ts';
import { killAll, parsePids, processesIn, removeCgroup, removeUnused } from './processes.ts';
import { readNow } from './read-now.ts';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { Resources, Usage } from '../sandbox.ts';

/** Beside the sandboxes' own: where supervisors live. No sandbox id starts with an underscore. */
const SUPERVISORS = '_supervisors';

/** Where the processes go that were in a cgroup of a version 2 tree when it had to hand controllers down to ours. */
const MEMBERS = 'nex-nix-members';

const MOVE_ROUNDS = 20;

/**
 * Makes the parent cgroups. The result has only the hierarchies, and of them the controllers, that can really be used:
 * not those of a tree that is read-only, or given to somebody else.
 */
export async function prepareCgroups({ hierarchies }: CgroupLayout): Promise<Hierarchy[]> {
  const prepared = await Promise.all(hierarchies.map(prepare));
  return prepared.filter((hierarchy) => hierarchy !== undefined);
}

async function prepare(hierarchy: Hierarchy): Promise<Hierarchy | undefined> {
  try {
    await makeParent(hierarchy);
    return hierarchy.version === 1 ? hierarchy : { ...hierarchy, controllers: await enableControllers(hierarchy) };
  } catch (error) {
    if (hasErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * The cgroup that ours is put in is somebody else's to make. A runtime that closes removes ours when it is empty, which
 * may be between our two steps.
 */
async function makeParent({ parent }: Hierarchy): Promise<void> {
  for (;;) {
    await makeFolder(parent);
    try {
      return await makeFolder(join(parent, SUPERVISORS));
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
  }
}

/** Removes the parent cgroups that no sandbox uses, of whatever process. */
export async function removeEmptyParents({ hierarchies }: CgroupLayout): Promise<void> {
  for (const hierarchy of hierarchies) {
    const { parent } = hierarchy;
    for (const folder of [join(parent, SUPERVISORS), parent, ...mayBeEmptied(hierarchy).map(membersOf)]) {
      try {
        await removeUnused(folder);
      } catch (error) {
        if (!hasErrno(error, 'EROFS', 'EACCES', 'EPERM')) throw error;
      }
    }
  }
}

/** Version 2 hands controllers down level by level. */
async function enableControllers(hierarchy: Hierarchy): Promise<Controller[]> {
  const enabled: Controller[] = [];
  for (const controller of hierarchy.controllers) {
    try {
      await enable(hierarchy, controller);
      enabled.push(controller);
    } catch (error) {
      if (!hasErrno(error, 'EBUSY', 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'EINVAL')) throw error;
    }
  }
  return enabled;
}

async function enable(hierarchy: Hierarchy, controller: Controller): Promise<void> {
  const { mountPoint, parent } = hierarchy;
  const enableIn = (folder: string) => writeFile(join(folder, 'cgroup.subtree_control'), `+${controller}`);
  let folder = mountPoint;
  for (const name of ['', ...relative(mountPoint, parent).split(sep)]) {
    folder = join(folder, name);
    try {
      await enableIn(folder);
    } catch (error) {
      if (!hasErrno(error, 'EBUSY') || !mayBeEmptied(hierarchy).includes(folder)) throw error;
      await moveMembers(folder);
      await enableIn(folder);
    }
  }
}

/**
 * The cgroups that are ours to rearrange. What we see as the root, where it is not the machine's but that of a container or
 * of a unit in a cgroup namespace; and the cgroup that ours was to be put in, which for that reason has been delegated.
 */
function mayBeEmptied({ mountPoint, parent }: Hierarchy): string[] {
  return [...new Set([mountPoint, dirname(parent)])];
}

function membersOf(folder: string): string {
  return join(folder, MEMBERS);
}

/** A cgroup hands controllers down only when it has no processes of its own, so they move to a cgroup beside ours. */
async function moveMembers(folder: string): Promise<void> {
  const members = membersOf(folder);
  await mkdir(members, { recursive: true });
  // Whatever they start while they are being moved is moved in the next round.
  for (let round = 0; round < MOVE_ROUNDS; round++) {
    const pids = parsePids(await readFile(join(folder, 'cgroup.procs'), 'utf8'));
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        await writeFile(join(members, 'cgroup.procs'), String(pid));
      } catch (error) {
        if (!hasErrno(error, 'ESRCH')) throw error;
      }
    }
  }
}

/** The cgroups that those of sandboxes are in, and that of supervisors. */
export function cgroupParents(hierarchies: readonly Hierarchy[]): string[] {
  return hierarchies.map(({ parent }) => parent);
}

/** Whether nobody has removed what {@link prepareCgroups} made. */
export function areParentsThere(hierarchies: readonly Hierarchy[]): boolean {
  return cgroupParents(hierarchies).every((parent) => existsSync(join(parent, SUPERVISORS)));
}

/** The cgroup of one sandbox, in every hierarchy. */
export class SandboxCgroup {
  readonly #hierarchies: readonly Hierarchy[];
  readonly #id: string;

  constructor(hierarchies: readonly Hierarchy[], id: string) {
    this.#hierarchies = hierarchies;
    this.#id = id;
  }

  /** The parents of it and of its supervisor's: `<parent>/<id>` and `<parent>/_supervisors`. */
  get parents(): string[] {
    return cgroupParents(this.#hierarchies);
  }

  /** The file whose `oom_kill` line counts what the kernel killed for want of memory. */
  get memoryEvents(): string | undefined {
    const memory = this.#with('memory');
    return memory && this.#file(memory, memory.version === 1 ? 'memory.oom_control' : 'memory.events');
  }

  /** The file that limits processes. */
  get pidsMax(): string | undefined {
    const pids = this.#with('pids');
    return pids && this.#file(pids, 'pids.max');
  }

  /** Whether there is anything of it. */
  get exists(): boolean {
    return this.#folders.some((folder) => existsSync(folder));
  }

  /** Sets the exact limit of processes, which holds once the runtime has set the sandbox up. */
  limitPids(pids: number): void {
    const file = this.pidsMax;
    if (file === undefined) return;
    try {
      writeFileSync(file, pidsLimit(pids));
    } catch (error) {
      // It has ended and is being removed.
      if (!hasErrno(error, 'ENOENT', 'ENODEV')) throw error;
    }
  }

  async create(resources: Resources): Promise<void> {
    await Promise.all(this.#hierarchies.map((hierarchy) => this.#createIn(hierarchy, resources)));
  }

  async #createIn(hierarchy: Hierarchy, resources: Resources): Promise<void> {
    await mkdir(this.#file(hierarchy, ''), { recursive: true });
    for (const { file, value, optional } of limitWrites(hierarchy, resources)) {
      try {
        await writeFile(this.#file(hierarchy, file), value, { flag: 'r+' });
      } catch (error) {
        if (optional && hasErrno(error, 'ENOENT')) continue;
        if (!hasErrno(error, 'EACCES', 'EPERM', 'EROFS', 'ENOENT', 'EOPNOTSUPP')) throw error;
        throw new SandboxError(
          'SANDBOX_LIMIT_UNSUPPORTED',
          `Cannot limit the sandbox "${this.#id}": "${file}" of its cgroup cannot be written`,
          { hint: `ls -l ${this.#file(hierarchy, '')}`, cause: error },
        );
      }
    }
  }

  /** Process ids, as this machine numbers them, of everything in it. */
  async processes(): Promise<number[]> {
    return processesIn(this.#folders);
  }

  /** Kills everything in it and waits until it is empty. */
  async kill(): Promise<void> {
    await killAll(this.#folders, `the sandbox "${this.#id}"`);
  }

  /** Removes it once it is empty. */
  async remove(): Promise<void> {
    await this.kill();
    await Promise.all(this.#folders.map(removeCgroup));
  }

  /** Makes a cgroup of its own for one more command. Undefined when it is not there, or the machine has none. */
  async makeExec(name: string): Promise<ExecCgroup | undefined> {
    return ExecCgroup.make(this.#hierarchies, (hierarchy) => this.#file(hierarchy, ''), name);
  }

  /** Ends the commands of a process that has been killed. */
  async killCommands(): Promise<void> {
    await killCommands(this.#hierarchies, (hierarchy) => this.#file(hierarchy, ''));
  }

  usage(): Usage {
    const memory = this.#number('memory', 'memory.usage_in_bytes', 'memory.current');
    const memoryPeak = this.#number('memory', 'memory.max_usage_in_bytes', 'memory.peak');
    const cpuMicros = this.#cpuMicros();
    const pids = this.#number('pids', 'pids.current', 'pids.current');
    return {
      ...(memory === undefined ? {} : { memory }),
      ...(memoryPeak === undefined ? {} : { memoryPeak }),
      ...(cpuMicros === undefined ? {} : { cpuMicros }),
      ...(pids === undefined ? {} : { pids }),
    };
  }

  #cpuMicros(): number | undefined {
    const v1 = this.#with('cpuacct');
    if (v1 !== undefined) {
      const nanos = this.#number('cpuacct', 'cpuacct.usage', 'cpuacct.usage');
      return nanos === undefined ? undefined : Math.round(nanos / 1000);
    }
    const v2 = this.#hierarchies.find(({ version }) => version === 2);
    const text = v2 && readNow(this.#file(v2, 'cpu.stat'));
    const micros = text?.match(/^usage_usec (\d+)$/m)?.[1];
    return micros === undefined ? undefined : Number(micros);
  }

  #number(controller: Controller, v1: string, v2: string): number | undefined {
    const hierarchy = this.#with(controller);
    const text = hierarchy && readNow(this.#file(hierarchy, hierarchy.version === 1 ? v1 : v2));
    return text === undefined ? undefined : Number(text);
  }

  #with(controller: Controller): Hierarchy | undefined {
    return this.#hierarchies.find(({ controllers }) => controllers.includes(controller));
  }

  get #folders(): string[] {
    return this.#hierarchies.map((hierarchy) => this.#file(hierarchy, ''));
  }

  #file({ parent }: Hierarchy, name: string): string {
    return join(parent, this.#id, name);
  }
}
