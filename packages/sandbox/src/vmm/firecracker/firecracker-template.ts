import { copyFile, lchown, lstat, mkdir, readFile, rename, rm, writeFile, chmod } from 'node:fs/promises';
import { arch, cpus, release } from 'node:os';
import { join } from 'node:path';
import { hasErrno } from '../../file-errors.ts';
import { SandboxError } from '../../sandbox-error.ts';
import type { VmShape, VmTemplate } from '../vmm.ts';
import { NAMES } from './firecracker-files.ts';

const DESCRIPTION = 'firecracker.json';

/** What must be the same where a snapshot is restored: its format changes with nearly every version, and it holds what the processor has. */
interface TemplateDescription {
  firecracker: string;
  processor: string;
  kernel: string;
  shape: Omit<VmShape, 'image'> & { image: string };
  /** Name of the tap; older versions cannot restore with another one. */
  tap?: string;
}

/** Makes a template of the snapshot that a Firecracker, which has ended, wrote to its folder. */
export async function keepTemplate(
  folder: string,
  { from, shape, version, tap }: { from: string; shape: VmShape; version: string; tap?: string | undefined },
): Promise<VmTemplate> {
  await mkdir(folder, { recursive: true });
  for (const name of [NAMES.state, NAMES.memory]) {
    // oxlint-disable-next-line no-await-in-loop -- two files, one after the other
    await moveOut(join(from, name), join(folder, name));
  }
  const description = { ...describe(shape, version), ...(tap === undefined ? {} : { tap }) };
  await writeFile(join(folder, DESCRIPTION), `${JSON.stringify(description)}\n`);
  return { folder, shape };
}

/** @throws SandboxError SANDBOX_TEMPLATE_UNFIT unless the template was made for just this */
export async function checkTemplate(
  template: VmTemplate,
  { shape, version, tap }: { shape: VmShape; version: string; tap?: string | undefined },
): Promise<void> {
  const found = await readDescription(template);
  const wanted = describe(shape, version);
  const differs = (Object.keys(wanted) as (keyof typeof wanted)[]).find(
    (key) => JSON.stringify(found[key]) !== JSON.stringify(wanted[key]),
  );
  if (differs !== undefined) throw unfit(template, `it is of another ${differs}`);
  if (tap !== undefined && found.tap !== tap) throw unfit(template, `its network interface is called "${found.tap}"`);
}

export function unfit({ folder }: VmTemplate, why: string, cause?: unknown): SandboxError {
  return new SandboxError('SANDBOX_TEMPLATE_UNFIT', `Cannot restore from the template "${folder}": ${why}`, { cause });
}

async function readDescription(template: VmTemplate): Promise<Partial<TemplateDescription>> {
  try {
    const value: unknown = JSON.parse(await readFile(join(template.folder, DESCRIPTION), 'utf8'));
    return typeof value === 'object' && value !== null ? value : {};
  } catch (error) {
    throw unfit(template, `it has no readable "${DESCRIPTION}"`, error);
  }
}

function describe({ image, vcpus, memory, slots, network }: VmShape, version: string): TemplateDescription {
  const { kernel, initrd, root, commandLine } = image.manifest;
  return {
    firecracker: version,
    processor: `${arch()} ${cpus()[0]?.model ?? ''}`,
    kernel: release(),
    shape: { image: [kernel.sha256, initrd.sha256, root.sha256, commandLine].join(' '), vcpus, memory, slots, network },
  };
}

/** Takes a file out of a folder that somebody else may write to: nothing but a file, to be read by all and written by none. */
async function moveOut(source: string, target: string): Promise<void> {
  const found = await lstat(source);
  if (!found.isFile() || found.nlink !== 1) {
    throw new SandboxError('SANDBOX_VMM_FAILED', `Cannot keep the snapshot "${source}": it is no file of its own`);
  }
  try {
    await rename(source, target);
  } catch (error) {
    if (!hasErrno(error, 'EXDEV')) throw error;
    await copyFile(source, target);
    await rm(source);
  }
  await lchown(target, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
  await chmod(target, 0o444);
}
