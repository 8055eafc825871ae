import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { CgroupLayout, Controller, Hierarchy } from './cgroup-layout.ts';
import { limitWrites } from './cgroup-limits.ts';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { Resources, Usage } from '../sandbox.ts';

/** Name of the cgroup that holds everything of ours. */
const PARENT = 'nex-nix';

/** Beside the sandboxes' own: where supervisors live. No sandbox id starts with an underscore. */
const SUPERVISORS = '_supervisors';

/** Where the processes go that were in the root of a version 2 tree when controllers had to be handed down. */
const MEMBERS = `${PARENT}-members`;

const MOVE_ROUNDS = 20;

const KILL_TIMEOUT_MS = 10_000;

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
    await mkdir(join(hierarchy.mountPoint, PARENT, SUPERVISORS), { recursive: true });
    return hierarchy.version === 1 ? hierarchy : { ...hierarchy, controllers: await enableControllers(hierarchy) };
  } catch (error) {
    if (hasErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOENT')) return undefined;
    throw error;
  }
}

/** Removes the parent cgroups that no sandbox uses, of whatever process. */
export async function removeEmptyParents({ hierarchies }: CgroupLayout): Promise<void> {
  for (const { mountPoint } of hierarchies) {
    for (const folder of [join(PARENT, SUPERVISORS), PARENT, MEMBERS].map((name) => join(mountPoint, name))) {
      try {
        await rmdir(folder);
      } catch (error) {
        if (!hasErrno(error, 'EBUSY', 'ENOTEMPTY', 'ENOENT', 'EROFS', 'EACCES', 'EPERM')) throw error;
      }
    }
  }
}

/** Version 2 hands controllers down level by level. */
async function enableControllers({ mountPoint, controllers }: Hierarchy): Promise<Controller[]> {
  const enabled: Controller[] = [];
  for (const controller of controllers) {
    try {
      await enable(mountPoint, controller);
      enabled.push(controller);
    } catch (error) {
      if (!hasErrno(error, 'EBUSY', 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'EINVAL')) throw error;
    }
  }
  return enabled;
}

async function enable(mountPoint: string, controller: Controller): Promise<void> {
  const enableIn = (folder: string) => writeFile(join(folder, 'cgroup.subtree_control'), `+${controller}`);
  try {
    await enableIn(mountPoint);
  } catch (error) {
    if (!hasErrno(error, 'EBUSY')) throw error;
    await moveMembers(mountPoint);
    await enableIn(mountPoint);
  }
  await enableIn(join(mountPoint, PARENT));
}

/**
 * What we see as the root is not the machine's, but that of a container or of a unit in a cgroup namespace: such a
 * cgroup hands controllers down only when it has no processes of its own, so they move to a cgroup beside ours.
 */
async function moveMembers(mountPoint: string): Promise<void> {
  const members = join(mountPoint, MEMBERS);
  await mkdir(members, { recursive: true });
  // Whatever they start while they are being moved is moved in the next round.
  for (let round = 0; round < MOVE_ROUNDS; round++) {
    const pids = parsePids(await readFile(join(mountPoint, 'cgroup.procs'), 'utf8'));
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
    return this.#hierarchies.map(({ mountPoint }) => join(mountPoint, PARENT));
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

  async create(resources: Resources): Promise<void> {
    await Promise.all(this.#hierarchies.map((hierarchy) => this.#createIn(hierarchy, resources)));
  }

  async #createIn(hierarchy: Hierarchy, resources: Resources): Promise<void> {
    await mkdir(this.#file(hierarchy, ''), { recursive: true });
    for (const { file, value, optional } of limitWrites(hierarchy, resources)) {
      try {
        await writeFile(this.#file(hierarchy, file), value, { flag: 'r+' });
      } catch (error) {
        if (!(optional && hasErrno(error, 'ENOENT'))) throw error;
      }
    }
  }

  /** Process ids, as this machine numbers them, of everything in it. */
  async processes(): Promise<number[]> {
    const pids = new Set<number>();
    for (const hierarchy of this.#hierarchies) {
      const text = await readOrUndefined(this.#file(hierarchy, 'cgroup.procs'));
      for (const pid of parsePids(text ?? '')) pids.add(pid);
    }
    return [...pids];
  }

  /** Kills everything in it and waits until it is empty. */
  async kill(): Promise<void> {
    const deadline = Date.now() + KILL_TIMEOUT_MS;
    for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
      const alive = await this.processes();
      if (alive.length === 0) return;
      if (Date.now() > deadline) {
        throw new SandboxError(
          'SANDBOX_STOP_FAILED',
          `Cannot stop the sandbox "${this.#id}": processes ${alive.join(', ')} are alive after SIGKILL`,
          { hint: `ps -o pid,stat,wchan,args -p ${alive.join(',')}` },
        );
      }
      for (const pid of alive) sigkill(pid);
      await delay(pause);
    }
  }

  /** Removes it once it is empty. */
  async remove(): Promise<void> {
    await this.kill();
    await Promise.all(this.#hierarchies.map((hierarchy) => removeCgroup(this.#file(hierarchy, ''))));
  }

  async usage(): Promise<Usage> {
    const [memory, memoryPeak, cpuMicros, pids] = await Promise.all([
      this.#number('memory', 'memory.usage_in_bytes', 'memory.current'),
      this.#number('memory', 'memory.max_usage_in_bytes', 'memory.peak'),
      this.#cpuMicros(),
      this.#number('pids', 'pids.current', 'pids.current'),
    ]);
    return {
      ...(memory === undefined ? {} : { memory }),
      ...(memoryPeak === undefined ? {} : { memoryPeak }),
      ...(cpuMicros === undefined ? {} : { cpuMicros }),
      ...(pids === undefined ? {} : { pids }),
    };
  }

  async #cpuMicros(): Promise<number | undefined> {
    const v1 = this.#with('cpuacct');
    if (v1 !== undefined) {
      const nanos = await this.#number('cpuacct', 'cpuacct.usage', 'cpuacct.usage');
      return nanos === undefined ? undefined : Math.round(nanos / 1000);
    }
    const v2 = this.#hierarchies.find(({ version }) => version === 2);
    const text = v2 && (await readOrUndefined(this.#file(v2, 'cpu.stat')));
    const micros = text?.match(/^usage_usec (\d+)$/m)?.[1];
    return micros === undefined ? undefined : Number(micros);
  }

  async #number(controller: Controller, v1: string, v2: string): Promise<number | undefined> {
    const hierarchy = this.#with(controller);
    const text = hierarchy && (await readOrUndefined(this.#file(hierarchy, hierarchy.version === 1 ? v1 : v2)));
    return text === undefined ? undefined : Number(text);
  }

  #with(controller: Controller): Hierarchy | undefined {
    return this.#hierarchies.find(({ controllers }) => controllers.includes(controller));
  }

  #file({ mountPoint }: Hierarchy, name: string): string {
    return join(mountPoint, PARENT, this.#id, name);
  }
}

/** 0 stands for a process outside our pid namespace; as an argument of kill it would mean ourselves. */
function parsePids(text: string): number[] {
  return text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
}

function sigkill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}

/** rmdir of a cgroup says EBUSY for a moment after its last process has gone. */
async function removeCgroup(folder: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await rmdir(folder);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return;
      if (!hasErrno(error, 'EBUSY') || attempt === 50) throw error;
    }
    await delay(10);
  }
}

async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
