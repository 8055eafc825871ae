import type { NetworkOptions } from '../network/network-options.ts';
import type { SandboxSpec } from '../sandbox.ts';
import type { GuestImage, Vmm, VmShape } from '../vmm/vmm.ts';
import type { MicrovmEvent } from './microvm-event.ts';

export interface MicrovmRuntimeOptions {
  /** Where sandboxes are kept, a folder each, with their machines, disks and templates. For one runtime at a time. */
  stateDir: string;
  /** Folder of the guest image, see `nex guest build`. Absent: nothing new is made, and what is there is looked after. */
  guestImage?: string | undefined;
  /** What runs the machines. @default QEMU */
  vmm?: Vmm;
  /** Machines that are kept ready. @default 1 */
  poolSize?: number;
  /** Processors of a machine whose sandbox asks for no more. @default 1 */
  vcpus?: number;
  /** Bytes of memory that a program can have in a machine whose sandbox asks for no more. @default 256 MiB */
  memory?: number;
  /** Milliseconds that a guest has from its start to its first answer. @default 30 000 */
  handshakeTimeoutMs?: number;
  /** Milliseconds between two looks whether a guest is alive; three without an answer end it. 0: none. @default 10 000 */
  heartbeatMs?: number;
  /** Bytes of each output stream that are kept on disk; the oldest go. @default 8 MiB */
  logBytes?: number;
  /** Bytes that closure disks may take when none of them is in use. @default 10 GiB */
  diskBytes?: number;
  /** Whether machines are restored from a template that is taken once. @default where the VMM can */
  useTemplates?: boolean;
  /** Where the templates are; several runtimes may share them. @default in the state folder */
  templateDir?: string;
  /** As of `oci`: the cgroup that all machines are put below. @default '/' */
  cgroupParent?: string;
  /** The network `bridge`. Absent, or where this machine has not what it takes: machines have no interface. */
  network?: NetworkOptions | undefined;
  /**
   * Whether the state folder is made, and what processes that are gone have left is removed at once. Otherwise nothing is
   * touched but by `clean()`, and no sandboxes can be made. @default true
   */
  tidy?: boolean;
  /** Called with what becomes of machines. */
  onEvent?: (event: MicrovmEvent) => void;
}

/** What a guest takes of its memory for itself: kernel, agent, page tables. */
const GUEST_MEMORY = 96 << 20;

/** One disk for the closure, one to write to. */
const SLOTS = 2;

const MEMORY_STEP = 2 << 20;

/** Options with their defaults. */
export function microvmSettings(options: MicrovmRuntimeOptions) {
  const { onEvent = () => undefined, vcpus = 1, memory = 256 << 20, poolSize = 1 } = options;
  const { handshakeTimeoutMs = 30_000, heartbeatMs = 10_000, logBytes = 8 << 20, diskBytes = 10 * 2 ** 30 } = options;
  const { templateDir } = options;
  const templates = templateDir === undefined ? {} : { templateDir };
  return { ...templates, onEvent, vcpus, memory, poolSize, handshakeTimeoutMs, heartbeatMs, logBytes, diskBytes };
}

export type MicrovmSettings = ReturnType<typeof microvmSettings>;

/** The machine of sandboxes that ask for no more than the settings have. */
export function poolShape(image: GuestImage, { vcpus, memory }: MicrovmSettings, network: boolean): VmShape {
  return { image, vcpus, memory: machineMemory(memory), slots: SLOTS, network };
}

/** The machine that a sandbox needs: that of the pool, or a larger one. */
export function shapeFor({ resources, network }: SandboxSpec, pool: VmShape): VmShape {
  const vcpus = Math.max(pool.vcpus, Math.ceil(resources.cpus ?? 0));
  const memory = Math.max(pool.memory, resources.memory === undefined ? 0 : machineMemory(resources.memory));
  return { ...pool, vcpus, memory, network: pool.network || network === 'bridge' };
}

/**
 * Bytes of memory that a program can have. One without a limit is bounded all the same: a guest that runs out of memory as a
 * whole reads its own programs again and again for a long time before it kills anything.
 */
export function programMemory(spec: SandboxSpec, pool: VmShape): number {
  return spec.resources.memory ?? shapeFor(spec, pool).memory - GUEST_MEMORY;
}

/** Whether machines of one shape are as good as those of the other. */
export function isSameShape(a: VmShape, b: VmShape): boolean {
  return a.vcpus === b.vcpus && a.memory === b.memory && a.network === b.network;
}

function machineMemory(memory: number): number {
  return Math.ceil((memory + GUEST_MEMORY) / MEMORY_STEP) * MEMORY_STEP;
}
