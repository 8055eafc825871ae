import type { Duplex } from 'node:stream';
import type { GuestManifest } from '@nex-nix/guest';
import type { Requirement } from '../sandbox.ts';

type VmmName = 'qemu' | 'firecracker';

/** A guest image as it lies on this machine. */
export interface GuestImage {
  /** Absolute path of its folder. */
  folder: string;
  manifest: GuestManifest;
}

/** What all VMs of a pool have in common: a template is of one shape, and fits no other. */
export interface VmShape {
  image: GuestImage;
  vcpus: number;
  /** Bytes of the guest's memory. */
  memory: number;
  /**
   * Disks that can be attached later, beside the image's own. What a guest may do with a disk is settled when it boots: it
   * can only read slot 0, and can write to all others.
   */
  slots: number;
  /** Whether it has a network interface. */
  network: boolean;
}

/** A virtual machine that is to be started. */
export interface VmSpec extends VmShape {
  /** `[A-Za-z0-9][A-Za-z0-9-]{0,31}`. */
  id: string;
  /** A folder of its own, which exists: sockets, console, records. Only this process may write to it; its user may pass. Goes with the VM, and is the caller's to remove. */
  folder: string;
  /** User and group, as this machine numbers them, that the VMM runs as; it needs no rights beyond its files. */
  user: number;
  /** Files named `cgroup.procs` (or `tasks`) that the VMM writes itself to before it runs, one per hierarchy. */
  cgroupEntries: readonly string[];
  /** Its end of the network: a tap device in a network namespace, owned by `user`. Present exactly with `network: true`. */
  tap?: { namespace: string; name: string; mac: string };
}

/** A booted guest's state, from which others of the same shape are restored, each with a private copy of its memory. */
export interface VmTemplate {
  folder: string;
  shape: VmShape;
}

/** What finds a VM again after this process has ended. JSON. */
export interface VmRecord {
  vmm: VmmName;
  id: string;
  folder: string;
  slots: number;
}

/** How a VM ended. */
export interface VmExit {
  /** `shutdown`: the guest powered off. `reset`: it rebooted, as it does after a panic. `panic`: it said so. `killed`: somebody killed the VMM. `failed`: the VMM gave up. */
  reason: 'shutdown' | 'reset' | 'panic' | 'killed' | 'failed';
  /** Last lines of what the VMM itself said, for errors. */
  detail: string;
}

/** A running VM. Disposing the object lets go of it and leaves it running. */
export interface Vm extends AsyncDisposable {
  readonly record: VmRecord;
  /** The VMM's process, as this machine numbers it. */
  readonly pid: number;
  /** Resolves at once when the VMM's process is gone, also one that was reattached. */
  readonly exited: Promise<VmExit>;
  /** Connects to the agent's channel: a byte stream. One at a time; an earlier one is closed. The guest may not listen yet. */
  connect(options?: { signal?: AbortSignal }): Promise<Duplex>;
  /** Makes a file of this machine the disk in a slot. */
  attach(slot: number, file: string, options: { writable: boolean }): Promise<void>;
  /** Takes the state into a folder and ends this VM: templates are shared, it must not run on. */
  toTemplate(folder: string): Promise<VmTemplate>;
  /** Kills it; resolves when the process is gone. */
  kill(): Promise<void>;
  /** Last lines of the guest's console. */
  consoleTail(): Promise<string>;
  /** Bytes of this machine's memory that it takes now (its resident set). */
  memory(): Promise<number>;
}

/** A program that runs virtual machines. They outlive this process. */
export interface Vmm {
  readonly name: VmmName;
  /** What the machine must have. With an image more can be told: whether a guest of it really boots with KVM, say. */
  check(image?: GuestImage): Promise<Requirement[]>;
  /** Resolves when the VMM runs; the guest boots. A VM whose start failed leaves nothing. */
  boot(spec: VmSpec): Promise<Vm>;
  /** As `boot()`, from a template of the same shape; resolves when the guest runs. Undefined where the VMM cannot. */
  restore?(spec: VmSpec, template: VmTemplate): Promise<Vm>;
  /** The VM of a record, whoever started it; undefined when it is gone. */
  reattach(record: VmRecord): Promise<Vm | undefined>;
}
