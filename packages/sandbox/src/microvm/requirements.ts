import { arch } from 'node:os';
import { GuestError, PROTOCOL_VERSIONS, readGuestImage } from '@nex-nix/guest';
import { findExecutable } from '../find-executable.ts';
import type { Machine } from '../machine.ts';
import type { NetworkSettings } from '../network/network-options.ts';
import { networkRequirement } from '../network/network-requirement.ts';
import { cgroupRequirement, rootRequirement } from '../oci/oci-requirements.ts';
import type { Requirement } from '../sandbox.ts';
import { FirecrackerVmm } from '../vmm/firecracker/firecracker-vmm.ts';
import { QemuVmm } from '../vmm/qemu/qemu-vmm.ts';
import type { GuestImage, Vmm } from '../vmm/vmm.ts';

export interface MicrovmRequirementOptions {
  /** The VMM that was chosen. */
  vmm: Vmm;
  /** Folder of the guest image; absent: nobody has named one. */
  guestImage?: string | undefined;
  /** Where QEMU keeps what it has found out about this machine. */
  qemuDir: string;
  /** Absent: there is no network `bridge`. */
  network?: NetworkSettings | undefined;
}

/** Systems of guests that this machine's processor runs. */
const SYSTEMS: Partial<Record<string, string>> = { x64: 'x86_64-linux', arm64: 'aarch64-linux' };

const BUILD_GUEST = 'nex guest build';

const MIB = 1 << 20;

/** What the `microvm` runtime needs of a machine. Reads all of the guest image, and boots a guest of it to try KVM. */
export async function microvmRequirements(
  machine: Machine,
  options: MicrovmRequirementOptions,
): Promise<Requirement[]> {
  const { image, requirement } = await imageRequirement(options.guestImage);
  return [
    rootRequirement(machine),
    ...(await vmmRequirements(options, image)),
    requirement,
    await erofsRequirement(),
    cgroupRequirement(machine),
    ...(options.network === undefined ? [] : [await networkRequirement(options.network)]),
  ];
}

/** Those of the chosen VMM; when it cannot be used, also whether another one can. */
async function vmmRequirements(
  { vmm, qemuDir }: MicrovmRequirementOptions,
  image: GuestImage | undefined,
): Promise<Requirement[]> {
  const stated = await vmm.check(image);
  const own = vmm.name === 'firecracker' ? await withProbe(stated, qemuDir, image) : stated;
  if (own.every(isFit)) return own;
  const other = vmm.name === 'firecracker' ? new QemuVmm({ stateDir: qemuDir }) : new FirecrackerVmm();
  const others = await other.check(image);
  const [binary] = others;
  if (binary === undefined || !others.every(isFit)) return own;
  return [
    ...own,
    { name: 'another VMM', essential: false, met: true, detail: `--vmm ${other.name} would do: ${binary.detail}` },
  ];
}

function isFit({ essential, met }: Requirement): boolean {
  return met || !essential;
}

/** Firecracker cannot tell whether KVM boots a guest before it has one to run; QEMU, where it is installed, tries it. */
async function withProbe(
  requirements: readonly Requirement[],
  qemuDir: string,
  image: GuestImage | undefined,
): Promise<Requirement[]> {
  if (image === undefined) return [...requirements];
  const probe = await new QemuVmm({ stateDir: qemuDir, accelerator: 'kvm' }).check(image);
  const isThere = probe.some(({ name, met }) => name === 'QEMU' && met);
  const answer = isThere ? probe.find(({ name }) => name === 'KVM') : undefined;
  return requirements.map((requirement) =>
    requirement.name === 'KVM' && requirement.met && answer !== undefined
      ? {
          ...requirement,
          met: answer.met,
          detail: answer.detail,
          ...(answer.hint === undefined ? {} : { hint: answer.hint }),
        }
      : requirement,
  );
}

/** The image too, when it is there and whole. */
async function imageRequirement(
  folder: string | undefined,
): Promise<{ image: GuestImage | undefined; requirement: Requirement }> {
  const guest = { name: 'guest image', essential: true };
  const unmet = (detail: string, hint = BUILD_GUEST) => ({
    image: undefined,
    requirement: { ...guest, met: false, detail, hint },
  });
  if (folder === undefined) return unmet('none was named', `${BUILD_GUEST}, then name its folder with --guest-image`);
  try {
    const manifest = await readGuestImage(folder, { verify: true });
    const { kind, agent, protocol, system, kernel, initrd, root } = manifest;
    if (system !== SYSTEMS[arch()])
      return unmet(`"${folder}" is for ${system}, this machine is ${SYSTEMS[arch()] ?? arch()}`);
    if (!protocol.some((version) => PROTOCOL_VERSIONS.includes(version))) {
      return unmet(`the agent of "${folder}" (${agent}) speaks no version of the protocol that this node speaks`);
    }
    const size = Math.round((kernel.size + initrd.size + root.size) / MIB);
    const detail = `${kind}, agent ${agent}, ${size} MiB (${folder})`;
    return { image: { folder, manifest }, requirement: { ...guest, met: true, detail } };
  } catch (error) {
    if (error instanceof GuestError) return unmet(error.message, error.hint);
    throw error;
  }
}

/** Closure disks are built with it. */
async function erofsRequirement(): Promise<Requirement> {
  const erofs = { name: 'erofs tools', essential: true };
  const path = await findExecutable('mkfs.erofs');
  return path === undefined
    ? { ...erofs, met: false, detail: '"mkfs.erofs" is not on PATH', hint: 'apt-get install erofs-utils' }
    : { ...erofs, met: true, detail: path };
}
