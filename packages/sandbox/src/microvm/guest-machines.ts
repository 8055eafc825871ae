import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { UserIdClaims } from '../bundle/user-id-claims.ts';
import type { IdExtent } from '../bundle/user-ids.ts';
import { SandboxCgroup } from '../cgroup/cgroup.ts';
import { entryFile, type Hierarchy } from '../cgroup/cgroup-layout.ts';
import { hasErrno } from '../file-errors.ts';
import { halfFolders, identityIn, removeHalfFolders, writeOwner } from '../sandbox-folder.ts';
import type { LogPosition } from '../sandbox.ts';
import { isAlive } from '../supervisor/process-identity.ts';
import type { Vm, Vmm, VmRecord, VmShape, VmSpec, VmTemplate } from '../vmm/vmm.ts';
import { GuestMachine, type MachinePlace, removeMachine } from './guest-machine.ts';
import { greetGuest, type GreetOptions } from './handshake.ts';
import type { MicrovmEvent } from './microvm-event.ts';
import type { MachineNetworks } from './machine-networks.ts';

/** Where machines are, a folder each, in the state folder. No sandbox id starts with a dot. */
const FOLDER = '.machines';

/**
 * What a VMM may take of this machine's memory beside the guest's: QEMU without KVM keeps translated code, up to some
 * hundreds of MiB.
 */
const VMM_MEMORY = 640 << 20;

/** Threads of a VMM beside those of its processors. */
const VMM_THREADS = 256;

export interface GuestMachinesOptions {
  stateDir: string;
  vmm: Vmm;
  /** Prepared cgroup trees. */
  hierarchies: () => Promise<readonly Hierarchy[]>;
  userIds: UserIdClaims;
  idExtents: readonly IdExtent[];
  networks: MachineNetworks;
  handshakeTimeoutMs: number;
  /** Between two pings; 0: none. */
  heartbeatMs: number;
  onEvent: (event: MicrovmEvent) => void;
}

export interface MakeOptions {
  /** For errors: who the machine is for. */
  what: string;
  template?: VmTemplate | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Makes machines with a ready agent, and finds again what is left of them. All of a machine bears its id: a folder, which
 * is there before anything else and goes last, a cgroup with all of its processes, a network.
 */
export class GuestMachines {
  readonly #options: GuestMachinesOptions;
  readonly #folder: string;
  /** Machines of this process. */
  readonly #own = new Set<string>();

  private constructor(options: GuestMachinesOptions) {
    this.#options = options;
    this.#folder = join(options.stateDir, FOLDER);
  }

  static async open(options: GuestMachinesOptions, { tidy }: { tidy: boolean }): Promise<GuestMachines> {
    const machines = new GuestMachines(options);
    if (!tidy) return machines;
    await mkdir(machines.#folder, { recursive: true, mode: 0o711 });
    await removeHalfFolders(machines.#folder);
    return machines;
  }

  /** Folders of machines that a killed process had begun to make or to remove. */
  async half(): Promise<string[]> {
    return halfFolders(this.#folder);
  }

  /** Ids of all machines, whoever made them. */
  async names(): Promise<string[]> {
    return namesIn(this.#folder);
  }

  /**
   * Boots a machine, or restores it from a template, and waits for its agent. A machine that does not get so far leaves
   * nothing.
   *
   * @throws SandboxError SANDBOX_START_FAILED and those of the VMM; the reason of the signal
   */
  async make(shape: VmShape, options: MakeOptions): Promise<GuestMachine> {
    const id = `vm-${randomBytes(6).toString('hex')}`;
    this.#own.add(id);
    const place = await this.#place(id);
    try {
      const spec = await this.#prepare(place, shape);
      options.signal?.throwIfAborted();
      const vm = await this.#launch(spec, options.template);
      try {
        return await this.#greet({ vm, shape, place }, options);
      } catch (error) {
        await vm.kill();
        await vm[Symbol.asyncDispose]();
        throw error;
      }
    } catch (error) {
      await removeMachine(place);
      throw error;
    }
  }

  /**
   * The machine of a record, whoever made it, with a new connection to its agent; undefined when it is gone.
   *
   * @param have Bytes of output that are safe.
   * @throws SandboxError SANDBOX_START_FAILED when its agent does not answer; it is ended then
   */
  async reattach(
    record: VmRecord,
    { what, have }: { what: string; have: LogPosition },
  ): Promise<GuestMachine | undefined> {
    const { vmm, handshakeTimeoutMs: timeoutMs, heartbeatMs } = this.#options;
    const vm = await vmm.reattach(record);
    if (vm === undefined) return undefined;
    this.#own.add(record.id);
    try {
      const connection = await greetGuest(vm, { what, have, timeoutMs, heartbeatMs });
      return new GuestMachine({ ...(await this.#place(record.id)), vm, connection });
    } catch (error) {
      await vm.kill();
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** How an agent is greeted again whose connection broke. */
  greeting(what: string, have: LogPosition): GreetOptions {
    const { handshakeTimeoutMs: timeoutMs, heartbeatMs } = this.#options;
    return { what, have, timeoutMs, heartbeatMs };
  }

  /** Removes a machine, whatever there is of it. */
  async remove(id: string): Promise<void> {
    await removeMachine(await this.#place(id));
  }

  /** What of machines is there that no live process has, but for those that `isKept` wants to keep. */
  async lost(isKept: (id: string) => boolean): Promise<string[]> {
    const lost: string[] = [];
    for (const id of await this.names()) {
      if (this.#own.has(id) || isKept(id)) continue;
      const owner = await identityIn(join(this.#folder, id, 'owner'));
      if (owner === undefined || owner.pid === process.pid || !(await isAlive(owner))) lost.push(id);
    }
    return lost;
  }

  folderOf(id: string): string {
    return join(this.#folder, id);
  }

  async #place(id: string): Promise<MachinePlace> {
    const { hierarchies, networks } = this.#options;
    const cgroup = new SandboxCgroup(await hierarchies(), id);
    const detach = async () => {
      await networks.detach(id);
      this.#own.delete(id);
    };
    return { id, folder: this.folderOf(id), cgroup, detach };
  }

  async #prepare({ id, folder, cgroup }: MachinePlace, shape: VmShape): Promise<VmSpec> {
    const { userIds, idExtents, networks, hierarchies } = this.#options;
    const making = join(this.#folder, `.making-${id}`);
    await mkdir(making, { mode: 0o711 });
    await writeOwner(making);
    await rename(making, folder);
    const { user } = await userIds.claim(idExtents, folder);
    // Apart from the owner: whatever a VMM has there.
    const vmFolder = join(folder, 'vm');
    await mkdir(vmFolder, { mode: 0o711 });
    await cgroup.create({ memory: shape.memory + VMM_MEMORY, pids: shape.vcpus + VMM_THREADS });
    const trees = await hierarchies();
    const cgroupEntries = trees.map(({ parent }) => join(parent, id, entryFile(trees)));
    const tap = shape.network ? { tap: await networks.prepare(id, user) } : {};
    return { ...shape, id, folder: vmFolder, user, cgroupEntries, ...tap };
  }

  async #launch(spec: VmSpec, template: VmTemplate | undefined): Promise<Vm> {
    const { vmm, onEvent } = this.#options;
    const vm = template === undefined ? await vmm.boot(spec) : await vmm.restore?.(spec, template);
    if (vm === undefined) throw new TypeError(`${vmm.name} restores no machines`);
    onEvent({ type: 'machine-started', vmid: spec.id, from: template === undefined ? 'boot' : 'template' });
    return vm;
  }

  async #greet(
    { vm, shape, place }: { vm: Vm; shape: VmShape; place: MachinePlace },
    { what, signal }: MakeOptions,
  ): Promise<GuestMachine> {
    const { handshakeTimeoutMs: timeoutMs, heartbeatMs, onEvent } = this.#options;
    const began = performance.now();
    const connection = await greetGuest(vm, { what, timeoutMs, heartbeatMs, signal });
    const message = `agent ${connection.welcome.agent} in a ${shape.image.manifest.kind} guest`;
    onEvent({ type: 'handshake', vmid: place.id, message, ms: Math.round(performance.now() - began) });
    return new GuestMachine({ ...place, vm, connection });
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
