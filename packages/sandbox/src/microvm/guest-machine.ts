import { join } from 'node:path';
import type { GuestConnection } from '@nex-nix/guest';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { removeTree } from '../sandbox-folder.ts';
import type { Vm } from '../vmm/vmm.ts';
import { greetGuest, type GreetOptions } from './handshake.ts';
import { createScratch } from './workload-disks.ts';

/** Processor time of a VMM and of the guest's kernel and agent, beside that of the program, which the guest itself bounds. */
const VMM_CPUS = 0.5;

/** What a machine has on this machine, whether it runs or not. */
export interface MachinePlace {
  /** Also the name of its cgroup. */
  id: string;
  /** All that is on disk of it. */
  folder: string;
  cgroup: SandboxCgroup;
  /** Takes back its network, if it has one. */
  detach: () => Promise<void>;
}

export interface GuestMachineOptions extends MachinePlace {
  vm: Vm;
  connection: GuestConnection;
}

/** A virtual machine with the connection to the agent in it. Whoever has it ends it, or lets go of it. */
export class GuestMachine implements AsyncDisposable {
  readonly id: string;
  readonly vm: Vm;
  readonly cgroup: SandboxCgroup;
  readonly #place: MachinePlace;
  #connection: GuestConnection;
  #destroyed: Promise<void> | undefined;

  constructor({ vm, connection, ...place }: GuestMachineOptions) {
    this.id = place.id;
    this.cgroup = place.cgroup;
    this.vm = vm;
    this.#place = place;
    this.#connection = connection;
  }

  get connection(): GuestConnection {
    return this.#connection;
  }

  /** Connects again, after the connection broke. */
  async reconnect(options: GreetOptions): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
    this.#connection = await greetGuest(this.vm, options);
  }

  /** Makes a writable disk of a size for its VMM. */
  async makeScratch(size: number): Promise<string> {
    const file = join(this.#place.folder, 'scratch');
    await createScratch(file, size);
    return file;
  }

  /** Bounds the processor time that its VMM may take, so that no guest takes more than its program was allowed. */
  async limitCpus(cpus: number): Promise<void> {
    await this.cgroup.create({ cpus: cpus + VMM_CPUS });
  }

  /** Kills it; resolves when only files and the network are left. */
  async end(): Promise<void> {
    await this.vm.kill();
    await this.#connection[Symbol.asyncDispose]();
    await this.cgroup.remove();
  }

  /** Ends it and removes all of it. */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  /** Lets go of it, and leaves it running. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
    await this.vm[Symbol.asyncDispose]();
  }

  async #destroy(): Promise<void> {
    await this.end();
    await this.vm[Symbol.asyncDispose]();
    await removeMachine(this.#place);
  }
}

/** Removes what is left of a machine; kills what runs of it. The folder, by which it is found, goes last. */
export async function removeMachine({ folder, cgroup, detach }: MachinePlace): Promise<void> {
  await cgroup.remove();
  await detach();
  await removeTree(folder);
}
