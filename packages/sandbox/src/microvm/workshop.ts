import { join } from 'node:path';
import type { UserIdClaims } from '../bundle/user-id-claims.ts';
import { areParentsThere, prepareCgroups } from '../cgroup/cgroup.ts';
import type { Hierarchy } from '../cgroup/cgroup-layout.ts';
import type { Machine } from '../machine.ts';
import type { GuestImage, Vmm } from '../vmm/vmm.ts';
import { GuestMachines } from './guest-machines.ts';
import { GuestPool } from './guest-pool.ts';
import type { MachineNetworks } from './machine-networks.ts';
import type { MicrovmEvent } from './microvm-event.ts';
import { type MicrovmSettings, poolShape } from './microvm-options.ts';
import { Templates } from './templates.ts';
import { WorkloadDisks } from './workload-disks.ts';

/** Where the machines of a runtime come from, and what they are given. */
export interface Workshop {
  pool: GuestPool;
  machines: GuestMachines;
  disks: WorkloadDisks;
  networks: MachineNetworks;
  /** Folder of the templates. */
  templateDir: string;
  onEvent: (event: MicrovmEvent) => void;
}

/** What a runtime works with. */
export interface WorkshopParts {
  stateDir: string;
  settings: MicrovmSettings;
  machine: Machine;
  vmm: Vmm;
  /** Absent: nothing is made. */
  image: GuestImage | undefined;
  networks: MachineNetworks;
  userIds: UserIdClaims;
  useTemplates: boolean;
  /** Whether what killed processes have left is removed, and folders are made. */
  tidy: boolean;
  /** Ends what is under way. */
  signal: AbortSignal;
}

const NO_FILE = { file: '', sha256: '', size: 0 };

/** What a runtime without an image has in its place; nothing is booted from it. */
const NO_IMAGE: GuestImage = {
  folder: '',
  manifest: {
    version: 1,
    kind: 'minimal',
    system: '',
    agent: '',
    protocol: [],
    kernel: NO_FILE,
    initrd: NO_FILE,
    root: NO_FILE,
    commandLine: '',
    storePaths: [],
  },
};

/** The cgroup trees of this machine, prepared when they are needed first, or somebody has removed what was empty. */
class Hierarchies {
  readonly #machine: Machine;
  #prepared: readonly Hierarchy[] = [];

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  async get(): Promise<readonly Hierarchy[]> {
    if (this.#prepared.length === 0 || !areParentsThere(this.#prepared)) {
      this.#prepared = await prepareCgroups(this.#machine.cgroups);
    }
    return this.#prepared;
  }
}

/** Makes the folders below the state folder, and tidies them up, where that is wanted. Starts nothing. */
export async function openWorkshop(parts: WorkshopParts): Promise<Workshop> {
  const { stateDir, settings, machine, vmm, image, networks, userIds, useTemplates, tidy, signal } = parts;
  const hierarchies = new Hierarchies(machine);
  const { onEvent, poolSize, diskBytes } = settings;
  const { templateDir = join(stateDir, '.templates') } = settings;
  const own = { stateDir, vmm, hierarchies: () => hierarchies.get(), userIds, idExtents: machine.idExtents, networks };
  const machines = await GuestMachines.open({ ...settings, ...own }, { tidy });
  const templates =
    useTemplates && vmm.restore !== undefined
      ? new Templates({ folder: templateDir, vmm: vmm.name, machines, signal })
      : undefined;
  if (tidy && image !== undefined) await templates?.tidy(image);
  const shape = poolShape(image ?? NO_IMAGE, settings, networks.available);
  const size = image === undefined ? 0 : poolSize;
  const pool = new GuestPool({ size, shape, machines, templates, onEvent, signal });
  const disks = await WorkloadDisks.open({ folder: join(stateDir, '.disks'), budget: diskBytes, tidy });
  return { pool, machines, disks, networks, templateDir, onEvent };
}
