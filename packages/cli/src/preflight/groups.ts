import { delimiter, resolve } from 'node:path';
import { type BridgeOptions, bridgeNetwork } from '../bridge-options.ts';
import type { Context } from '../context.ts';
import type { MachineOptions } from '../machine-options.ts';
import { kindsOf, vmmOf } from '../node-runtimes.ts';
import { cniGroup } from './cni-group.ts';
import { filesGroup, type WantedFile } from './files-group.ts';
import type { Group } from './group.ts';
import { GUEST, guestGroup, isGuestImage } from './guest-group.ts';
import { machineGroup } from './machine-group.ts';
import { natsGroup } from './nats-group.ts';
import { sandboxGroup } from './sandbox-group.ts';

/** What `nex node up` would be given. */
export interface PreflightOptions extends BridgeOptions, MachineOptions {
  stateDir: string;
  cgroupParent?: string;
  allowUnlimited?: boolean;
  metricsPort?: number;
  metricsAddress: string;
}

const CNI_PLUGINS: readonly WantedFile[] = [
  { file: 'bridge', description: 'bridge CNI plugin' },
  { file: 'host-local', description: 'host-local CNI plugin' },
  { file: 'portmap', description: 'portmap CNI plugin' },
].map((plugin) => ({ ...plugin, debian: 'containernetworking-plugins', essential: false }));

const OCI_PROGRAMS: readonly WantedFile[] = [
  { file: 'crun', description: 'OCI runtime', debian: 'crun', essential: true },
  { file: 'unshare', description: 'namespaces', debian: 'util-linux', essential: true },
];

const BRIDGE_PROGRAMS: readonly WantedFile[] = [
  { file: 'ip', description: 'interfaces of the bridge network', debian: 'iproute2', essential: false },
  { file: 'iptables-restore', description: 'firewall of the bridge network', debian: 'iptables', essential: false },
];

const QEMU: WantedFile = {
  file: process.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64',
  description: 'QEMU',
  debian: process.arch === 'arm64' ? 'qemu-system-arm' : 'qemu-system-x86',
  essential: true,
};

const FIRECRACKER: WantedFile = {
  file: 'firecracker',
  description: 'Firecracker VM binary',
  hint: 'nix profile install nixpkgs#firecracker, or take QEMU, which does the same: --vmm qemu',
  essential: true,
};

const EROFS: WantedFile = {
  file: 'mkfs.erofs',
  description: 'disks of closures',
  debian: 'erofs-utils',
  essential: true,
};

/** What is looked at, in this order. */
export async function preflightGroups(context: Context, options: PreflightOptions): Promise<Group[]> {
  const { essential } = kindsOf(options);
  const [oci, microvm] = [essential.has('oci'), essential.has('microvm')];
  const { cniPluginFolders, MicrovmRuntime, OciRuntime } = await import('@nex-nix/sandbox');
  const network = await bridgeNetwork(options, (message) => context.say(message));
  const path = [...(options.binPath ?? []), ...(process.env['PATH'] ?? '').split(delimiter).filter(Boolean)];
  const programs = [
    ...(oci ? OCI_PROGRAMS : []),
    ...BRIDGE_PROGRAMS,
    ...(microvm ? [options.vmm === 'qemu' ? QEMU : FIRECRACKER, EROFS] : []),
  ];
  const common = { network, ...(options.cgroupParent === undefined ? {} : { cgroupParent: options.cgroupParent }) };
  const { guestImage } = options;
  const openMicrovm = async (stateDir: string) =>
    // Once only: a template would take longer than a boot. Without an image it says nevertheless what else is missing.
    MicrovmRuntime.open({
      ...common,
      stateDir,
      ...((await isGuestImage(guestImage)) ? { guestImage } : {}),
      vmm: vmmOf(options, stateDir),
      poolSize: 0,
      useTemplates: false,
      handshakeTimeoutMs: options.machineTimeout,
    });
  return [
    filesGroup('Required CNI Plugins', cniPluginFolders(network), CNI_PLUGINS),
    filesGroup('Required binaries', [...path, '/usr/sbin', '/sbin'], programs),
    cniGroup(options, cniPluginFolders(network)),
    ...(oci
      ? [sandboxGroup('Containers (oci)', { open: async (stateDir) => OciRuntime.open({ ...common, stateDir }) })]
      : []),
    ...(microvm && guestImage !== undefined
      ? [
          guestGroup(resolve(guestImage)),
          sandboxGroup('Virtual machines (microvm)', { open: openMicrovm, omit: [GUEST] }),
        ]
      : []),
    natsGroup(context),
    machineGroup({
      stateDir: options.stateDir,
      ports: options.metricsPort === undefined || options.metricsPort === 0 ? [] : [options.metricsPort],
      address: options.metricsAddress,
    }),
  ];
}
