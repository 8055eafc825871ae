import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type GuestManifest, readGuestImage } from '@nex-nix/guest';
import { findTool, guestImage, tempDir } from '@nex-nix/test-kit';
import { FirecrackerVmm } from '../../src/vmm/firecracker/firecracker-vmm.ts';
import type { Vm, VmRecord, VmSpec } from '../../src/vmm/vmm.ts';
import { fakeFirecracker, fakeJailer } from './fake-command.ts';

/** What all VMs here run as: no user of any machine. */
export const USER = 61_234;

/**
 * Firecracker's stand-in, an image of three small files, and VMs that end with the bed. `real`: Firecracker itself, from
 * PATH, and the minimal guest. `imageInMemory`: the image of three files lies on another file system than the VMs, where
 * there is one.
 */
export async function firecrackerBed({
  version,
  real = false,
  jailer = false,
  imageInMemory = false,
}: { version?: string; real?: boolean; jailer?: boolean; imageInMemory?: boolean } = {}) {
  const dir = await tempDir('nex-fc-');
  const imageDir = await tempDir('nex-fc-image-', { inMemory: imageInMemory });
  for (const { path } of [dir, imageDir]) await chmod(path, 0o711);
  const command = real ? (findTool('firecracker') ?? '') : await fakeFirecracker(dir.path, version);
  const options = { command, jailer, jailerCommand: real ? (findTool('jailer') ?? '') : await fakeJailer(dir.path) };
  const folder = real ? await guestImage() : join(imageDir.path, 'image');
  const image = { folder, manifest: real ? await readGuestImage(folder) : await writeImage(folder) };
  const vms = new Set<Vm>();
  const own = (vm: Vm) => {
    vms.add(vm);
    return vm;
  };
  const vmm = new FirecrackerVmm(options);

  const spec = async (id: string, change: Partial<VmSpec> = {}): Promise<VmSpec> => {
    const folder = join(dir.path, 'vms', id);
    await mkdir(folder, { recursive: true });
    const shape = { image, vcpus: 1, memory: 256 << 20, slots: 2, network: false };
    return { ...shape, id, folder, user: USER, cgroupEntries: [], ...change };
  };
  return {
    path: dir.path,
    image,
    vmm,
    options,
    own,
    spec,
    boot: async (id: string, change: Partial<VmSpec> = {}) => own(await vmm.boot(await spec(id, change))),
    /** Finds a VM again by its record, as a later process does. */
    reattach: async (record: VmRecord) => {
      const copy = JSON.parse(JSON.stringify(record)) as VmRecord;
      const vm = await new FirecrackerVmm(options).reattach(copy);
      if (vm === undefined) throw new Error(`There is no VM "${record.id}"`);
      return own(vm);
    },
    /** A file as the store's disks are: root's, and for all to read. */
    disk: async (name: string, size: number, mode = 0o444) => {
      const path = join(dir.path, name);
      await writeFile(path, Buffer.alloc(size));
      await chmod(path, mode);
      return path;
    },
    async [Symbol.asyncDispose]() {
      try {
        for (const vm of vms) {
          await vm.kill();
          await vm[Symbol.asyncDispose]();
        }
      } finally {
        await dir[Symbol.asyncDispose]();
        await imageDir[Symbol.asyncDispose]();
      }
    },
  };
}

/** What the guest of a VM answers to a line. */
export async function ask(vm: Vm, line: string): Promise<string> {
  const channel = await vm.connect({ signal: AbortSignal.timeout(10_000) });
  channel.write(`${line}\n`);
  return nextLine(channel);
}

export async function nextLine(channel: Duplex): Promise<string> {
  const [chunk] = (await once(channel, 'data', { signal: AbortSignal.timeout(10_000) })) as [Buffer];
  return chunk.toString().trim();
}

async function writeImage(folder: string): Promise<GuestManifest> {
  await mkdir(folder);
  const files = { kernel: '\x7fELF kernel', initrd: 'initrd', root: 'root' };
  for (const [name, content] of Object.entries(files))
    await writeFile(join(folder, `${name}.file`), content, { mode: 0o444 });
  const entry = (name: keyof typeof files) => ({
    file: `${name}.file`,
    size: files[name].length,
    sha256: '0'.repeat(64),
  });
  return {
    version: 1,
    kind: 'minimal',
    system: 'x86_64-linux',
    agent: '0.1.0',
    protocol: [1],
    kernel: entry('kernel'),
    initrd: entry('initrd'),
    root: entry('root'),
    commandLine: 'quiet',
    storePaths: [],
  };
}
