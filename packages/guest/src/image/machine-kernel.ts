import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { release } from 'node:os';
import { GuestError } from '../guest-error.ts';
import { demandTool, runTool } from './tools.ts';

/** Where a kernel is. */
export interface KernelFiles {
  /** `vmlinuz` or `vmlinux`. */
  kernel: string;
  /** `/lib/modules/<release>` or its like. */
  modules: string;
}

const PACKAGE_HINT =
  'apt-get download linux-image-cloud-amd64 has no kernel itself; download the linux-image-… it depends on, and name it with --kernel-package';

/**
 * The kernel of this machine, or of a folder with its `boot` and `lib/modules`: the running one when its files are there,
 * otherwise the newest that has modules.
 *
 * @throws GuestError GUEST_BUILD_FAILED when there is none, as in containers
 */
export async function findKernel(root = '/'): Promise<KernelFiles> {
  const found = await kernelBelow(root, release());
  if (found !== undefined) return found;
  const message = `Cannot build a guest: there is no kernel with its modules in "${join(root, 'boot')}"`;
  throw new GuestError('GUEST_BUILD_FAILED', message, {
    hint: 'Install one (apt-get install linux-image-cloud-amd64), or name files of one: --kernel FILE --modules DIR, or --kernel-package FILE.deb',
  });
}

/**
 * Unpacks a Debian package of a kernel (linux-image-<release>) into a folder.
 *
 * @throws GuestError GUEST_TOOL_MISSING without dpkg-deb; GUEST_BUILD_FAILED when it is no package of a kernel
 */
export async function unpackKernelPackage(
  file: string,
  { into, signal }: { into: string; signal?: AbortSignal | undefined },
): Promise<KernelFiles> {
  const purpose = `unpack the kernel package "${file}"`;
  await mkdir(into, { recursive: true });
  await runTool(purpose, [await demandTool('dpkg-deb', purpose), '-x', file, into], { signal });
  const found = await kernelBelow(into);
  if (found !== undefined) return found;
  throw new GuestError('GUEST_BUILD_FAILED', `Cannot ${purpose}: there is no kernel in it`, { hint: PACKAGE_HINT });
}

/** The kernel of a release if it is there, or the newest that has modules. */
async function kernelBelow(root: string, preferred?: string): Promise<KernelFiles | undefined> {
  const boot = await namesIn(join(root, 'boot'));
  const moduleFolders = [join(root, 'lib/modules'), join(root, 'usr/lib/modules')];
  const versions = boot
    .flatMap((name) => /^vmlinuz-(?<version>.+)$/.exec(name)?.groups?.['version'] ?? [])
    .toSorted((one, other) => other.localeCompare(one, 'en', { numeric: true }));
  const ordered = versions.toSorted((one, other) => Number(other === preferred) - Number(one === preferred));
  for (const version of ordered) {
    for (const folder of moduleFolders) {
      const modules = join(folder, version);
      const isWhole = await readFile(join(modules, 'modules.builtin')).then(
        () => true,
        () => false,
      );
      if (isWhole) return { kernel: join(root, 'boot', `vmlinuz-${version}`), modules };
    }
  }
  return undefined;
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}
