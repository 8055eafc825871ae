import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GuestError } from '../guest-error.ts';
import { PROTOCOL_VERSIONS } from '../protocol/messages.ts';
import { agentBundle } from './agent-bundle.ts';
import { writeCpio } from './cpio.ts';
import { elfInterpreter } from './elf.ts';
import { buildErofs } from './erofs.ts';
import { COMMAND_LINE, initrdEntries, MODULES, NODE_PATH, rootEntries } from './guest-files.ts';
import { sha256Of } from './guest-image.ts';
import { unpackKernel } from './kernel.ts';
import { type KernelModule, KernelModules } from './kernel-modules.ts';
import { type KernelFiles, findKernel, unpackKernelPackage } from './machine-kernel.ts';
import { type GuestManifest, type ImageFile, MANIFEST_FILE } from './manifest.ts';
import { Programs } from './programs.ts';
import { demandTool, findTool } from './tools.ts';
import type { TreeEntry } from './tree-entry.ts';

/** A store path that a guest image is to hold, and where its files are on this machine. */
export interface GuestImagePath {
  storePath: string;
  source: string;
  /** SRI syntax. */
  narHash?: string;
}

export interface MinimalGuestOptions {
  /** Folder of the image. It appears whole, at the end. */
  output: string;
  /** Puts the image in place of one that is there; anything else that is there stays, and nothing is built. @default false */
  replace?: boolean;
  /** Default: the kernel of this machine. */
  kernel?: KernelFiles | { package: string };
  /**
   * Store paths, closed under references, that the image holds: the disks of workloads then leave them out. A Node among
   * them runs the agent too, so that programs on the same Node find it in memory.
   */
  storePaths?: readonly GuestImagePath[];
  signal?: AbortSignal;
}

/** Names in the folder of an image. */
const IMAGE_FILES = ['vmlinux', 'initrd', 'root.erofs', MANIFEST_FILE];

const PURPOSE = 'build a guest';

const SYSTEMS: Readonly<Record<string, string>> = { x64: 'x86_64-linux', arm64: 'aarch64-linux' };

/**
 * Builds the minimal guest out of a kernel, this machine's programs and this package's agent. Equal inputs give equal
 * bytes.
 *
 * @throws GuestError GUEST_TOOL_MISSING, GUEST_BUILD_FAILED
 */
export async function buildMinimalGuest(options: MinimalGuestOptions): Promise<GuestManifest> {
  const { output, replace = false, storePaths = [], signal } = options;
  await demandPlace(output, replace);
  await mkdir(dirname(output), { recursive: true });
  const work = join(dirname(output), `.${basename(output)}.${process.pid}.${randomBytes(4).toString('hex')}`);
  await removeAbandoned(output);
  await mkdir(work);
  try {
    const image = join(work, 'image');
    await mkdir(image);
    const { kernel, modules } = await kernelFiles(options, join(work, 'package'));
    const vmlinux = await unpackKernel(await readFile(kernel, { signal }), { origin: kernel, signal });
    await writeFile(join(image, 'vmlinux'), vmlinux);
    await writeFile(join(image, 'initrd'), await initrd(modules, signal));
    const { code, version } = await agentBundle();
    const entries = await rootTree({ agent: code, storePaths, signal });
    await buildErofs({ output: join(image, 'root.erofs'), entries, ...(signal === undefined ? {} : { signal }) });
    const manifest: GuestManifest = {
      version: 1,
      kind: 'minimal',
      system: SYSTEMS[process.arch] ?? process.arch,
      agent: version,
      protocol: [...PROTOCOL_VERSIONS],
      kernel: await imageFile(image, 'vmlinux', signal),
      initrd: await imageFile(image, 'initrd', signal),
      root: await imageFile(image, 'root.erofs', signal),
      commandLine: COMMAND_LINE,
      storePaths: storePaths
        .map(({ storePath, narHash }) => ({ storePath, ...(narHash === undefined ? {} : { narHash }) }))
        .toSorted((one, other) => (one.storePath < other.storePath ? -1 : 1)),
    };
    await writeFile(join(image, MANIFEST_FILE), `${JSON.stringify(manifest, undefined, 2)}\n`);
    await putInPlace(image, output, join(work, 'earlier'));
    return manifest;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Refuses to put an image where something else is: what is replaced is gone. */
async function demandPlace(output: string, replace: boolean): Promise<void> {
  if ((await lstat(output).catch(() => undefined)) === undefined) return;
  if (!replace) {
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot build a guest in "${output}": it is there already`, {
      hint: 'Add --replace to put a new one in its place',
    });
  }
  const names = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return [basename(output)];
    throw error;
  });
  const foreign = names.find((name) => !IMAGE_FILES.includes(name));
  if (foreign === undefined) return;
  throw new GuestError('GUEST_BUILD_FAILED', `Cannot replace "${output}": "${foreign}" is of no guest image`, {
    hint: 'Name another folder with --output',
  });
}

/** What builders of the same image have left that were killed. */
async function removeAbandoned(output: string): Promise<void> {
  const prefix = `.${basename(output)}.`;
  for (const name of await readdir(dirname(output))) {
    const pid = name.startsWith(prefix)
      ? /^(?<pid>\d+)\.[0-9a-f]{8}$/.exec(name.slice(prefix.length))?.groups?.['pid']
      : undefined;
    if (pid === undefined || isAlive(Number(pid))) continue;
    await rm(join(dirname(output), name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one, too.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function kernelFiles({ kernel, signal }: MinimalGuestOptions, into: string): Promise<KernelFiles> {
  if (kernel === undefined) return findKernel();
  return 'package' in kernel ? unpackKernelPackage(kernel.package, { into, signal }) : kernel;
}

async function initrd(folder: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const known = await KernelModules.open(folder);
  const lists = new Map<string, KernelModule[]>();
  for (const [key, names] of Object.entries(MODULES)) lists.set(key, await known.inOrder(names, { signal }));
  return writeCpio(initrdEntries(await readFile(await staticBusybox()), lists));
}

/** Alone in the initrd, it must run without libraries. */
async function staticBusybox(): Promise<string> {
  const path = await demandTool('busybox', PURPOSE);
  if (elfInterpreter(await readFile(path)) === undefined) return path;
  throw new GuestError(
    'GUEST_TOOL_MISSING',
    `Cannot ${PURPOSE}: "${path}" needs libraries, a static busybox is wanted`,
    {
      hint: 'apt-get install busybox-static',
    },
  );
}

interface RootTree {
  agent: Uint8Array;
  storePaths: readonly GuestImagePath[];
  signal: AbortSignal | undefined;
}

async function rootTree({ agent, storePaths, signal }: RootTree): Promise<TreeEntry[]> {
  const programs = new Programs();
  const mkfs = await programs.add(await demandTool('mkfs.ext4', PURPOSE), { signal });
  const socat = await findTool('socat');
  const own = rootEntries({
    agent,
    busybox: await staticBusybox(),
    node: (await nodeAmong(storePaths)) ?? (await programs.add(process.execPath, { at: NODE_PATH, signal })),
    socat: socat === undefined ? undefined : await programs.add(socat, { signal }),
    tools: { mkfs },
  });
  const store = storePaths.map(({ storePath, source }) => ({ name: storePath.slice(1), source }));
  return [...(await Programs.mergedFolders()), ...own, ...programs.entries(), ...store];
}

/** The program of Node in a store path of that name, as the guest sees it. */
async function nodeAmong(storePaths: readonly GuestImagePath[]): Promise<string | undefined> {
  for (const { storePath, source } of storePaths) {
    if (!/^[^-]+-node(?:js)?(?:-|$)/.test(basename(storePath))) continue;
    const stats = await stat(join(source, 'bin/node')).catch(() => undefined);
    if (stats?.isFile() === true && (stats.mode & 0o111) !== 0) return `${storePath}/bin/node`;
  }
  return undefined;
}

async function imageFile(folder: string, file: string, signal: AbortSignal | undefined): Promise<ImageFile> {
  const path = join(folder, file);
  return { file, size: (await stat(path)).size, sha256: await sha256Of(path, signal) };
}

/** A folder that is there goes aside first: a folder cannot be renamed onto one. */
async function putInPlace(image: string, output: string, aside: string): Promise<void> {
  await rename(output, aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await rename(image, output);
}
