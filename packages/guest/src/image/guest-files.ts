import type { GuestConfig } from '../agent/guest-config.ts';
import { PORT_NAME, VSOCK_PORT } from '../protocol/messages.ts';
import type { CpioEntry } from './cpio.ts';
import type { KernelModule } from './kernel-modules.ts';
import type { TreeEntry } from './tree-entry.ts';

/** Modules that every guest loads, and those that go with a virtio device, by the number of its kind. */
export const MODULES: Readonly<Record<string, readonly string[]>> = {
  base: ['virtio_mmio', 'pvpanic_mmio?', 'crc32c_generic?', 'erofs', 'ext4'],
  '0x0001': ['virtio_net'],
  '0x0002': ['virtio_blk'],
  '0x0003': ['virtio_console'],
  '0x0004': ['virtio_rng?'],
  '0x0013': ['vmw_vsock_virtio_transport?'],
};

/** Words for the kernel that hold everywhere: a guest that goes wrong ends, and nothing is done that nobody needs. */
export const COMMAND_LINE = [
  'quiet',
  'panic=-1',
  'oops=panic',
  'audit=0',
  'nokaslr',
  'mitigations=off',
  'random.trust_cpu=on',
  'cryptomgr.notests',
  'raid=noautodetect',
  '8250.nr_uarts=1',
  'rcupdate.rcu_expedited=1',
].join(' ');

/** Where the guest's own files are in its image. */
const HOME = 'nex';
const BUSYBOX = `/${HOME}/busybox`;
/** Where the Node of the building machine is put: wherever that has it, images are the same. */
export const NODE_PATH = `/${HOME}/node`;
const SOCKET = '/run/nex-agent.sock';

/** As many as any VMM attaches: `/dev/vda` is the image itself. */
const SLOTS = ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];

/** The user that workloads run as. */
const USER = 1000;

/** First program of the guest, out of memory: makes the root image the root. */
const INITRD_INIT = `#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev && exec </dev/console >/dev/console 2>&1
fail() { echo "nex guest: $*"; echo o >/proc/sysrq-trigger; exec sleep 60; }
mount -t proc proc /proc && mount -t sysfs sys /sys || fail "cannot mount /proc and /sys"
load() {
  while read -r name; do
    [ -d "/sys/module/$name" ] || insmod "/modules/$name.ko" || echo "nex guest: cannot load the module $name"
  done <"/modules/$1"
}
load base
for device in /sys/bus/virtio/devices/*/device; do
  read -r kind <"$device" && [ -f "/modules/$kind" ] && load "$kind"
done
mount -t erofs -o ro /dev/vda /root || fail "cannot mount the root image, its first disk"
for folder in dev proc sys; do mount -o move "/$folder" "/root/$folder"; done
exec switch_root /root /${HOME}/init
`;

const INITRD_COMMANDS = ['mount', 'insmod', 'sleep', 'switch_root'];

/** Second program, out of the root image: the parent of all, so it is what reaps. When the agent ends, the guest does. */
function rootInit(node: string, socat: string | undefined): string {
  const listen =
    socat === undefined
      ? 'echo "nex guest: this image was built without socat, by which its agent is reached over vsock"'
      : `${socat} VSOCK-LISTEN:${VSOCK_PORT},fork UNIX-CONNECT:${SOCKET} &`;
  return `#!${BUSYBOX} sh
export HOME=/tmp
b=${BUSYBOX}
$b mount -t tmpfs -o mode=755 tmpfs /run
$b mount -t tmpfs tmpfs /tmp
$b mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
channel=virtio end=o
read -r words </proc/cmdline
case " $words " in *" nex.channel=vsock "*) channel=vsock end=b ;; esac
if [ "$channel" = vsock ]; then
  ${listen}
fi
$b ip link set lo up
${node} --max-old-space-size=64 /${HOME}/agent.cjs "/${HOME}/$channel.json" &
wait $!
echo "nex guest: the agent has ended with $?"
echo "$end" >/proc/sysrq-trigger
wait
`;
}

/** Files of the initrd. */
export function initrdEntries(busybox: Buffer, modules: ReadonlyMap<string, readonly KernelModule[]>): CpioEntry[] {
  const files = new Map([...modules.values()].flat().map((module) => [module.name, module.content]));
  return [
    { name: 'init', content: INITRD_INIT, executable: true },
    { name: 'bin/busybox', content: busybox, executable: true },
    ...INITRD_COMMANDS.map((command) => ({ name: `bin/${command}`, target: 'busybox' })),
    ...['dev', 'proc', 'sys', 'root'].map((name) => ({ name, folder: true as const })),
    ...[...files].map(([name, content]) => ({ name: `modules/${name}.ko`, content })),
    ...[...modules].map(([key, list]) => ({
      name: `modules/${key}`,
      content: list.map(({ name }) => `${name}\n`).join(''),
    })),
  ];
}

/** What the guest's own files in the root image depend on. */
export interface RootFiles {
  agent: Uint8Array;
  /** Absolute path on the building machine: it is copied to a place of its own. */
  busybox: string;
  /** Absolute paths in the image. */
  node: string;
  socat: string | undefined;
  tools: GuestConfig['tools'];
}

/** The guest's own files in the root image. */
export function rootEntries(files: RootFiles): TreeEntry[] {
  return [
    ...['dev', 'proc', 'sys', 'run', 'tmp', 'etc', 'nix/store'].map((name) => ({ name, folder: true as const })),
    { name: `${HOME}/busybox`, source: files.busybox },
    { name: `${HOME}/init`, content: rootInit(files.node, files.socat), executable: true },
    { name: `${HOME}/agent.cjs`, content: files.agent },
    { name: `${HOME}/virtio.json`, content: guestConfig(files, { channel: { port: PORT_NAME }, end: 'poweroff' }) },
    { name: `${HOME}/vsock.json`, content: guestConfig(files, { channel: { listen: SOCKET }, end: 'reboot' }) },
  ];
}

function guestConfig({ tools }: RootFiles, { channel, end }: Pick<GuestConfig, 'channel' | 'end'>): string {
  const config: GuestConfig = {
    channel,
    imageStore: '/nix/store',
    slots: SLOTS.map((letter) => `/dev/vd${letter}`),
    tools,
    runDir: '/run/nex',
    uid: USER,
    gid: USER,
    ...(end === undefined ? {} : { end }),
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}
