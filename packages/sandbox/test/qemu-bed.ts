import { execFileSync } from 'node:child_process';
import { copyFile, link, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type GuestManifest, MANIFEST_FILE } from '@nex-nix/guest';
import { findTool, guestImage, GUEST_TOOLS, tempDir } from '@nex-nix/test-kit';
import { QemuVmm, type QemuVmmOptions } from '../src/vmm/qemu/qemu-vmm.ts';
import type { GuestImage, Vm, VmSpec } from '../src/vmm/vmm.ts';

export const TOOLS = [...GUEST_TOOLS, 'setpriv', 'unshare'];

/** First user of VMs here; nobody else's on a machine for tests. */
const FIRST_USER = 1_500_000_000;

/** In place of the agent: runs each line that comes over the agent's port with a shell, and says `END` after its output. */
const INIT = `#!/bin/busybox sh
export PATH=/bin
busybox --install -s /bin
mount -t devtmpfs dev /dev && exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc && mount -t sysfs sys /sys
for list in base 0x0001 0x0002 0x0003; do
  while read -r name; do [ -d "/sys/module/$name" ] || insmod "/modules/$name.ko"; done <"/modules/$list"
done
echo "guest is up"
until [ -n "$port" ]; do
  for each in /sys/class/virtio-ports/*; do
    [ "$(cat "$each/name")" != nex.agent ] || [ ! -e "/dev/\${each##*/}" ] || port=/dev/\${each##*/}
  done
done
exec 3<>"$port"
# Where nobody is connected, reading ends at once.
while :; do
  while read -r line <&3; do eval "$line" >&3 2>&1; echo END >&3; done
  usleep 10000
done
`;

/** VMs of a small guest that does what it is told; all of them end with it. */
export async function qemuBed({ options = {} }: { options?: Partial<QemuVmmOptions> } = {}) {
  const dir = await tempDir('nex-qemu-');
  const image = await shellImage(dir.path);
  const vmm = new QemuVmm({ stateDir: join(dir.path, 'vmm'), accelerator: 'tcg', ...options });
  const vms: Vm[] = [];
  let count = 0;

  const spec = async (change: Partial<VmSpec> = {}): Promise<VmSpec> => {
    const id = `vm-${process.pid}-${count++}`;
    const folder = join(dir.path, id);
    await mkdir(folder);
    const shape = { image, vcpus: 1, memory: 96 << 20, slots: 2, network: false };
    return { ...shape, id, folder, user: FIRST_USER + count, cgroupEntries: [], ...change };
  };
  const kept = <T extends Vm | undefined>(vm: T): T => {
    if (vm !== undefined) vms.push(vm);
    return vm;
  };

  const killAll = async () => {
    for (const vm of vms.splice(0)) {
      await vm.kill();
      await vm[Symbol.asyncDispose]();
    }
  };

  return {
    path: dir.path,
    image,
    vmm,
    spec,
    boot: async (change?: Partial<VmSpec>) => kept(await vmm.boot(await spec(change))),
    restore: async (...[template, change]: [Parameters<QemuVmm['restore']>[1], Partial<VmSpec>?]) =>
      kept(await vmm.restore(await spec(change), template)),
    reattach: async (record: Vm['record']) => kept(await vmm.reattach(record)),
    /** Another VMM on the same machine, as after a restart. */
    another: (more: Partial<QemuVmmOptions> = {}) => new QemuVmm({ stateDir: join(dir.path, 'vmm'), ...more }),
    killAll,
    async [Symbol.asyncDispose]() {
      await killAll();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** What the guest prints when it runs a line of shell. */
export async function run(vm: Vm, line: string): Promise<string> {
  const channel = await vm.connect();
  try {
    channel.write(`${line}\n`);
    return await untilEnd(channel);
  } finally {
    channel.destroy();
  }
}

/** Has the guest run a line of shell that it does not survive. */
export async function tell(vm: Vm, line: string): Promise<void> {
  (await vm.connect()).write(`${line}\n`);
}

async function untilEnd(channel: Duplex): Promise<string> {
  let text = '';
  for await (const bytes of channel) {
    text += String(bytes);
    if (text.endsWith('END\n')) return text.slice(0, -'END\n'.length);
  }
  throw new Error(`The guest's channel has ended after ${JSON.stringify(text)}`);
}

/** The kernel and the modules of the minimal guest, with a first program of our own: of two files in an initrd the later counts. */
async function shellImage(folder: string): Promise<GuestImage> {
  const minimal = await guestImage();
  const image = join(folder, 'image');
  await mkdir(image);
  const manifest = JSON.parse(await readFile(join(minimal, MANIFEST_FILE), 'utf8')) as GuestManifest;
  await linkOrCopy(join(minimal, manifest.kernel.file), join(image, manifest.kernel.file));
  await writeFile(join(folder, 'init'), INIT, { mode: 0o755 });
  const busybox = findTool('busybox') ?? '';
  const init = execFileSync(busybox, ['cpio', '-o', '-H', 'newc'], {
    cwd: folder,
    input: 'init\n',
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const initrd = await readFile(join(minimal, manifest.initrd.file));
  await writeFile(join(image, manifest.initrd.file), Buffer.concat([initrd, init]));
  await erofs(join(image, manifest.root.file), { root: 'the root image\n' });
  return { folder: image, manifest };
}

/** An erofs image with some files, that everybody may read. */
export async function erofs(image: string, files: Record<string, string>): Promise<void> {
  const source = `${image}.files`;
  await mkdir(source);
  for (const [name, content] of Object.entries(files)) await writeFile(join(source, name), content);
  execFileSync(findTool('mkfs.erofs') ?? '', [image, source], { stdio: 'ignore' });
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyFile(from, to);
  }
}
