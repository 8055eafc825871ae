import { constants } from 'node:fs';
import { chmod, type FileHandle, open, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SandboxError } from '../../sandbox-error.ts';
import { readProc } from '../../supervisor/process-identity.ts';
import type { VmShape, VmTemplate } from '../vmm.ts';

/** In a template's folder, besides the memory. */
const FACTS = 'template.json';
export const STATE = 'state';

const BLOCK = 1024 * 1024;

/** What has to be the same where a template is made and where a VM is restored from it. */
export interface TemplateFacts {
  /** Whole version of QEMU: it promises nothing between versions for this kind of machine. */
  qemu: string;
  accelerator: string;
  /** See {@link QemuSettings.tscKhz}. */
  tscKhz: number | null;
  /** Of the machine: files that a crash has left half written do not outlive it, and neither does its processor. */
  bootId: string;
  vcpus: number;
  memory: number;
  slots: number;
  network: boolean;
  /** Hashes of the guest's image. */
  image: string[];
  commandLine: string;
}

export function templateFacts(
  { image: { manifest }, vcpus, memory, slots, network }: VmShape,
  { qemu, accelerator, tscKhz }: { qemu: string; accelerator: string; tscKhz: number | undefined },
): TemplateFacts {
  const bootId = readProc('sys/kernel/random/boot_id')?.trim() ?? '';
  const image = [manifest.kernel.sha256, manifest.initrd.sha256, manifest.root.sha256];
  const shape = { vcpus, memory, slots, network, image, commandLine: manifest.commandLine };
  return { qemu, accelerator, tscKhz: tscKhz ?? null, bootId, ...shape };
}

/** Writes what makes a folder a template; last of all. */
export async function writeFacts(folder: string, facts: TemplateFacts): Promise<void> {
  const file = join(folder, FACTS);
  await writeFile(`${file}.new`, JSON.stringify(facts), { mode: 0o644 });
  await rename(`${file}.new`, file);
}

/**
 * Refuses a template that was made of something else.
 *
 * @throws SandboxError SANDBOX_TEMPLATE_UNFIT
 */
export async function demandFit(template: VmTemplate, facts: TemplateFacts): Promise<void> {
  let written: Partial<Record<string, unknown>>;
  try {
    written = JSON.parse(await readFile(join(template.folder, FACTS), 'utf8')) as Partial<Record<string, unknown>>;
  } catch (error) {
    throw unfit(template, 'it is no whole template', error);
  }
  for (const [name, wanted] of Object.entries(facts)) {
    const found = JSON.stringify(written[name]);
    if (found === JSON.stringify(wanted)) continue;
    throw unfit(template, `its "${name}" is ${found ?? 'not known'}, and not ${JSON.stringify(wanted)}`);
  }
}

export function unfit({ folder }: VmTemplate, why: string, cause?: unknown): SandboxError {
  return new SandboxError('SANDBOX_TEMPLATE_UNFIT', `Cannot restore a guest from "${folder}": ${why}`, {
    hint: 'Boot the guest, and make a new template',
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * Copies a guest's memory, leaving out what holds nothing but zeros: those pages take no room, and are zeros when they are
 * read. Links are not followed.
 */
export async function copyMemory(from: string, to: string): Promise<void> {
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  await using target = await open(to, 'wx', 0o444);
  const { size } = await source.stat();
  await target.truncate(size);
  const block = Buffer.allocUnsafe(BLOCK);
  const zeros = Buffer.alloc(BLOCK);
  for (let position = 0; position < size; position += BLOCK) {
    const { bytesRead } = await source.read(block, 0, BLOCK, position);
    await writeRuns(target, { block: block.subarray(0, bytesRead), zeros, position });
  }
  await chmod(to, 0o444);
}

const PAGE = 4096;

/** Writes the runs of pages of a block that are not empty. */
async function writeRuns(
  target: FileHandle,
  { block, zeros, position }: { block: Buffer; zeros: Buffer; position: number },
): Promise<void> {
  const isEmpty = (from: number, to: number) => block.compare(zeros, 0, to - from, from, to) === 0;
  if (isEmpty(0, block.length)) return;
  let start = 0;
  while (start < block.length) {
    let end = start;
    while (end < block.length && !isEmpty(end, Math.min(end + PAGE, block.length))) end += PAGE;
    end = Math.min(end, block.length);
    if (end > start) await target.write(block, start, end - start, position + start);
    start = Math.max(end, start + PAGE);
  }
}
