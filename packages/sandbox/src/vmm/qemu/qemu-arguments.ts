import { type ImageFile, PORT_NAME } from '@nex-nix/guest';
import { SandboxError } from '../../sandbox-error.ts';
import type { VmShape, VmSpec } from '../vmm.ts';

/** Kernel-based virtualisation by the processor, or QEMU's own translation of every instruction. */
export type Accelerator = 'kvm' | 'tcg';

/** Names in the folder that QEMU runs in. Relative, since the address of a Unix socket has 107 bytes at most. */
export const QEMU_FILES = {
  monitor: 'monitor.sock',
  agent: 'agent.sock',
  /** Where a state goes out or comes in. */
  state: 'state.sock',
  /** Mount points in QEMU's mount namespace. */
  image: 'image',
  template: 'template',
  memory: 'memory',
  /** The guest's memory, in `memory` and in a template. */
  ram: 'ram',
} as const;

/** Names of devices and of nodes of the block layer. */
export const QEMU_NAMES = {
  console: 'console',
  /** What a slot's disk is read from, until and after it is attached. */
  slot: (index: number) => `slot${index}`,
  empty: (index: number) => `empty${index}`,
  file: (index: number) => `file${index}`,
};

/** Bytes of the guest's console that QEMU keeps; a power of two. */
export const CONSOLE_BYTES = 64 * 1024;

/** Only its first slot is one that a guest can only read; see {@link VmShape.slots}. */
export function isWritable(slot: number): boolean {
  return slot > 0;
}

/** Bytes of a slot's disk until one is attached; of one that can only be read, for ever. No closure is larger. */
const EMPTY_DISK = 1024 ** 4;

const MIB = 1024 * 1024;

/** With kernels that draw no random address, and where nothing protects from a host that can see everything anyway. */
const TCG_WORDS = 'nokaslr mitigations=off no_timer_check tsc=reliable';

/** How a VM comes to its state. */
export interface QemuSettings {
  accelerator: Accelerator;
  /** Frequency of the processor's time stamp counter in kHz, as a guest under TCG sees it. */
  tscKhz: number | undefined;
  /**
   * `boot`: from its kernel. `copy`: from a template, of whose memory it has a copy of its own. `share`: from a template,
   * whose memory it maps, with a private copy of each page that it writes to.
   */
  from: 'boot' | 'copy' | 'share';
}

/** Arguments of `qemu-system-x86_64`. The VM waits for `cont`. */
export function qemuArguments(spec: VmSpec, settings: QemuSettings): string[] {
  check(spec);
  const { image, vcpus, memory } = spec;
  const { manifest } = image;
  const { accelerator, from } = settings;
  const inImage = ({ file }: ImageFile) => `${QEMU_FILES.image}/${file}`;
  const rootFile = 'driver=file,node-name=root-file,read-only=on,locking=off';
  return [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-name', spec.id],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-machine', `microvm,accel=${accelerator},rtc=on,memory-backend=memory`],
    ['-cpu', accelerator === 'kvm' ? 'host' : 'max', '-smp', String(vcpus)],
    ['-m', `${memory / MIB}M`, '-object', memoryBackend(memory, from)],
    // A VM that has ended stays, so that its last words can be read and its end is known whoever looks, and when.
    ['-S', '-action', 'reboot=shutdown,shutdown=pause,panic=pause'],
    ['-kernel', inImage(manifest.kernel), '-initrd', inImage(manifest.initrd)],
    ['-append', commandLine(spec, settings)],
    ['-chardev', `socket,id=monitor,path=${QEMU_FILES.monitor},server=on,wait=off`],
    ['-mon', 'chardev=monitor,mode=control'],
    // A ring, since a guest may print without end.
    ['-chardev', `ringbuf,id=${QEMU_NAMES.console},size=${CONSOLE_BYTES}`],
    ['-serial', `chardev:${QEMU_NAMES.console}`],
    ['-device', 'pvpanic'],
    ['-device', 'virtio-serial-device,id=ports'],
    ['-chardev', `socket,id=agent,path=${QEMU_FILES.agent},server=on,wait=off`],
    ['-device', `virtserialport,bus=ports.0,chardev=agent,id=agent,name=${PORT_NAME}`],
    ['-blockdev', `${rootFile},filename=${inImage(manifest.root)}`],
    ['-blockdev', 'driver=raw,node-name=root,read-only=on,file=root-file'],
    ['-device', 'virtio-blk-device,drive=root,serial=root'],
    ...Array.from({ length: spec.slots }, (_, slot) => slotArguments(slot)),
    networkArguments(spec),
    from === 'boot' ? [] : ['-incoming', 'defer'],
  ].flat();
}

function check({ image: { manifest }, memory, network, tap }: VmSpec): void {
  const fail = (message: string) => new SandboxError('SANDBOX_SPEC_INVALID', message);
  if (manifest.system !== 'x86_64-linux') {
    throw fail(`Cannot boot a guest of "${manifest.system}" with QEMU: only those of "x86_64-linux" are known`);
  }
  if (memory % MIB !== 0) throw fail(`Cannot give a guest ${memory} bytes of memory: that is no multiple of 1 MiB`);
  if (tap !== undefined && !network) throw fail('Cannot give a guest a tap device: it has no network interface');
}

/** In a file, since only what is shared with a file is left out of a state: QEMU's `x-ignore-shared`. */
function memoryBackend(size: number, from: QemuSettings['from']): string {
  const folder = from === 'share' ? QEMU_FILES.template : QEMU_FILES.memory;
  const mode = from === 'share' ? 'share=off,readonly=on,rom=off' : 'share=on';
  return `memory-backend-file,id=memory,size=${size},mem-path=${folder}/${QEMU_FILES.ram},${mode}`;
}

/** Disks that can be put in later: an empty node, in whose place another is put under the guest's device. */
function slotArguments(slot: number): string[] {
  const { slot: name, empty } = QEMU_NAMES;
  const readOnly = isWritable(slot) ? 'off' : 'on';
  return [
    ['-blockdev', `driver=null-co,node-name=${empty(slot)},size=${EMPTY_DISK},read-zeroes=on`],
    ['-blockdev', `driver=raw,node-name=${name(slot)},read-only=${readOnly},file=${empty(slot)}`],
    ['-device', `virtio-blk-device,drive=${name(slot)},serial=${name(slot)}`],
  ].flat();
}

/** Without a tap device: an interface that is connected to nothing, as a guest has that will become a template. */
function networkArguments({ network, tap }: VmSpec): string[] {
  if (!network) return [];
  const backend =
    tap === undefined ? 'hubport,id=net,hubid=0' : `tap,id=net,ifname=${tap.name},script=no,downscript=no`;
  return ['-netdev', backend, '-device', `virtio-net-device,netdev=net${tap === undefined ? '' : `,mac=${tap.mac}`}`];
}

/**
 * Under TCG the guest has to be told how fast its time stamp counter is: where the host is busy, measuring it against the
 * emulated timer goes wrong, and the guest then waits for ever.
 */
function commandLine({ image }: VmShape, { accelerator, tscKhz }: QemuSettings): string {
  return [
    image.manifest.commandLine,
    'console=ttyS0 8250.nr_uarts=1 reboot=t panic=-1 nex.channel=virtio',
    ...(accelerator === 'tcg' ? [TCG_WORDS] : []),
    ...(accelerator === 'tcg' && tscKhz !== undefined ? [`tsc_early_khz=${tscKhz}`] : []),
  ].join(' ');
}
