import { chmod, chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { spawnVmm } from '../launch.ts';
import type { VmSpec, VmTemplate } from '../vmm.ts';
import { QEMU_FILES, qemuArguments, type QemuSettings } from './qemu-arguments.ts';
import { QemuProcess } from './qemu-process.ts';

/** In a VM's folder: what QEMU runs in, and who it is. */
export const RUN_FOLDER = 'run';
export const PROCESS_FILE = 'process';

/** Where there is room for device nodes. */
const DEVICES = 'devices';

/** What a file of memory takes besides its bytes, in the file system that it is in. */
const MEMORY_EXTRA = 1024 * 1024;

export interface LaunchQemuOptions {
  qemu: string;
  settings: QemuSettings;
  template: VmTemplate | undefined;
  endsWithParent: boolean;
}

/**
 * Starts QEMU in a session of its own, in the cgroups and the network namespace of its spec, as its user, without rights.
 * It has no network where the spec has none. The folder that it runs in is its user's, until {@link sealRunFolder}.
 *
 * @throws SandboxError SANDBOX_VMM_MISSING
 */
export async function launchQemu(
  spec: VmSpec,
  { qemu, settings, template, endsWithParent }: LaunchQemuOptions,
): Promise<QemuProcess> {
  const { folder, user, image, cgroupEntries, tap } = spec;
  const argv = qemuArguments(spec, settings);
  const run = join(folder, RUN_FOLDER);
  // What is in it beside that folder is nobody's but ours. QEMU begins inside, and needs no way there.
  await chown(folder, 0, 0);
  await chmod(folder, 0o700);
  await mkdir(run, { mode: 0o700 });
  for (const name of [QEMU_FILES.image, QEMU_FILES.template, QEMU_FILES.memory, DEVICES]) await mkdir(join(run, name));
  await chown(run, user, user);
  const seen = [{ source: image.folder, target: join(run, QEMU_FILES.image) }];
  if (template !== undefined && settings.from === 'share') {
    seen.push({ source: template.folder, target: join(run, QEMU_FILES.template) });
  }
  const copyOf = template === undefined || settings.from !== 'copy' ? undefined : join(template.folder, QEMU_FILES.ram);
  const { identity, child } = await spawnVmm([qemu, ...argv], {
    folder: run,
    processFile: join(folder, PROCESS_FILE),
    user,
    cgroupEntries,
    namespace: tap?.namespace,
    binds: seen,
    devices: {
      paths: [...(settings.accelerator === 'kvm' ? ['/dev/kvm'] : []), ...(tap === undefined ? [] : ['/dev/net/tun'])],
      folder: join(run, DEVICES),
    },
    memory: { folder: join(run, QEMU_FILES.memory), bytes: spec.memory + MEMORY_EXTRA, copyOf },
    endsWithParent,
    stdout: 'ignore',
    stderr: 'pipe',
  });
  return new QemuProcess(identity, child);
}

/**
 * Takes the folder from QEMU's user, who keeps to reach what is in it: what a guest might make of QEMU can put nothing in
 * the place of the sockets that this machine connects to.
 */
export async function sealRunFolder(run: string, user: number): Promise<void> {
  await chmod(run, 0o710);
  await chown(run, 0, user);
}
