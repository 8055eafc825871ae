import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { promisify } from 'node:util';
import { hasErrno } from '../../file-errors.ts';
import { findExecutable } from '../../find-executable.ts';
import type { Requirement } from '../../sandbox.ts';
import { type FirecrackerVersion, isAtLeast, NEWEST, OLDEST, parseVersion } from './firecracker-version.ts';

const run = promisify(execFile);

const INSTALL = 'Install 1.16 from https://github.com/firecracker-microvm/firecracker/releases, or use QEMU';

const KVM = '/dev/kvm';

/** What Firecracker needs of a machine. */
export async function firecrackerRequirements({
  command,
  jailer,
}: {
  command: string;
  jailer: string | undefined;
}): Promise<Requirement[]> {
  return Promise.all([
    binaryRequirement(command),
    kvmRequirement(),
    ...(jailer === undefined ? [] : [jailerRequirement(jailer)]),
  ]);
}

async function binaryRequirement(command: string): Promise<Requirement> {
  const binary = { name: 'Firecracker', essential: true };
  const path = await findExecutable(command);
  if (path === undefined) return { ...binary, met: false, detail: `"${command}" is not on PATH`, hint: INSTALL };
  try {
    const { stdout } = await run(path, ['--version'], { timeout: 10_000 });
    const version = parseVersion(stdout);
    const said = stdout.split('\n', 1)[0] ?? '';
    if (version === undefined)
      return { ...binary, met: false, detail: `"${path} --version" prints "${said}"`, hint: INSTALL };
    if (!isAtLeast(version, OLDEST)) {
      return { ...binary, met: false, detail: `${said} (${path}), older than ${OLDEST.join('.')}`, hint: INSTALL };
    }
    return { ...binary, met: true, detail: `${said} (${path})${remark(version)}` };
  } catch (error) {
    return { ...binary, met: false, detail: `"${path} --version" fails: ${(error as Error).message}`, hint: INSTALL };
  }
}

/** What is good to know of a version that will do. */
function remark(version: FirecrackerVersion): string {
  if (isAtLeast([version[0], version[1], 0], [NEWEST[0], NEWEST[1] + 1]))
    return `; newer than tested, ${NEWEST.join('.')}`;
  // Before that it names its devices on the kernel's command line.
  return isAtLeast(version, [1, 8])
    ? ''
    : '; before 1.8, guests need a kernel with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES, which those of distributions lack';
}

/** Whether it boots a guest is another question: one that only a guest can answer. */
async function kvmRequirement(): Promise<Requirement> {
  const kvm = { name: 'KVM', essential: true };
  try {
    await access(KVM, constants.R_OK | constants.W_OK);
    return { ...kvm, met: true, detail: `${KVM} can be opened` };
  } catch (error) {
    const missing = hasErrno(error, 'ENOENT');
    const detail = missing ? `there is no ${KVM}` : `${KVM} cannot be opened: ${(error as Error).message}`;
    return {
      ...kvm,
      met: false,
      detail,
      hint: 'modprobe kvm_intel || modprobe kvm_amd; or use QEMU, which does without',
    };
  }
}

async function jailerRequirement(command: string): Promise<Requirement> {
  const jailer = { name: 'Firecracker jailer', essential: true };
  const path = await findExecutable(command);
  return path === undefined
    ? { ...jailer, met: false, detail: `"${command}" is not on PATH`, hint: INSTALL }
    : { ...jailer, met: true, detail: path };
}
