import { SandboxError } from '../../sandbox-error.ts';
import type { VmSpec } from '../vmm.ts';
import type { FirecrackerApi } from './firecracker-api.ts';
import { NAMES, slotName } from './firecracker-files.ts';
import type { FirecrackerFeatures } from './firecracker-version.ts';

const NETWORK_ID = 'net0';

/** Context id of the guest; only its own Firecracker looks at it. */
const GUEST_CID = 3;

/** Firecracker reserves 2 KiB for the command line, to which it adds up to six devices. */
const MAX_BOOT_ARGS = 1600;

const MIB = 1 << 20;

/**
 * Words for the kernel on top of the manifest's. `reboot=k`: the only way for a guest to end its VMM is a reset by the
 * keyboard controller; `panic=-1`: it takes it at once after a panic. The i8042 words spare half a second of looking for
 * a mouse; newer versions add `pci=off` by themselves.
 */
const WORDS = [
  'console=ttyS0',
  'reboot=k',
  'panic=-1',
  'pci=off',
  'i8042.noaux',
  'i8042.nomux',
  'i8042.nopnp',
  'i8042.dumbkbd',
  'nex.channel=vsock',
];

/**
 * Bytes of console at once, and again in an hour: a boot's worth. A guest that prints without end would fill the disk
 * while no node is there to shorten the file.
 */
const CONSOLE_LIMIT = { size: MIB, refill_time: 3_600_000 };

/** @throws SandboxError SANDBOX_SPEC_INVALID for what Firecracker has no room for */
export function bootArguments({ image, vcpus, id }: VmSpec): string {
  const words = [image.manifest.commandLine.trim(), ...WORDS].join(' ');
  if (words.length > MAX_BOOT_ARGS)
    throw invalid(id, `its command line has ${words.length} bytes, more than ${MAX_BOOT_ARGS}`);
  if (vcpus < 1 || vcpus > 32) throw invalid(id, `it has ${vcpus} processors; Firecracker has 1 to 32`);
  return words;
}

/** Tells a fresh Firecracker all about a VM, and starts it. */
export async function sendBoot(api: FirecrackerApi, spec: VmSpec, features: FirecrackerFeatures): Promise<void> {
  await sendConsole(api, features);
  await api.putMachineConfig({ vcpu_count: spec.vcpus, mem_size_mib: Math.ceil(spec.memory / MIB) });
  await api.putBootSource({
    kernel_image_path: NAMES.kernel,
    initrd_path: NAMES.initrd,
    boot_args: bootArguments(spec),
  });
  // No root device: that would add `root=` to the command line, and it is for the initrd to say what is mounted where.
  const disk = { is_root_device: false, is_read_only: true };
  await api.putDrive('root', { ...disk, path_on_host: NAMES.root });
  for (let slot = 0; slot < spec.slots; slot += 1) {
    const name = slotName(slot);
    // oxlint-disable-next-line no-await-in-loop -- their order is that of the guest's disks
    await api.putDrive(name, { ...disk, path_on_host: name, is_read_only: slot === 0 });
  }
  if (spec.tap !== undefined) {
    await api.putNetworkInterface(NETWORK_ID, { host_dev_name: spec.tap.name, guest_mac: spec.tap.mac });
  }
  await api.putVsock({ guest_cid: GUEST_CID, uds_path: NAMES.agent });
  await api.putEntropy();
  await api.action('InstanceStart');
}

/** Tells a fresh Firecracker to go on with a snapshot's guest. */
export async function sendRestore(api: FirecrackerApi, spec: VmSpec, features: FirecrackerFeatures): Promise<void> {
  await sendConsole(api, features);
  const tap = spec.tap === undefined || !features.networkOverrides ? undefined : spec.tap.name;
  await api.loadSnapshot({
    snapshot_path: NAMES.state,
    mem_backend: { backend_type: 'File', backend_path: NAMES.memory },
    resume_vm: true,
    ...(tap === undefined ? {} : { network_overrides: [{ iface_id: NETWORK_ID, host_dev_name: tap }] }),
  });
}

/** Standard output, which it is by default, as far as that may be. It is in no snapshot. */
async function sendConsole(api: FirecrackerApi, { consoleLimit }: FirecrackerFeatures): Promise<void> {
  if (consoleLimit) await api.putSerial({ rate_limiter: CONSOLE_LIMIT });
}

function invalid(id: string, why: string): SandboxError {
  return new SandboxError('SANDBOX_SPEC_INVALID', `Cannot make the virtual machine "${id}": ${why}`);
}
