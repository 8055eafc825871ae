import { SandboxError } from '../../sandbox-error.ts';
import type { Requirement } from '../../sandbox.ts';
import { findExecutable } from '../../find-executable.ts';
import type { Accelerator } from './qemu-arguments.ts';
import type { KvmAnswer } from './kvm-probe.ts';
import { findQemu, QEMU_HINT, sharesMemory, TESTED } from './qemu-version.ts';

/** What a machine needs for guests under QEMU. `kvm`: what is known of it. */
export async function qemuRequirements(options: {
  command: string;
  accelerator: Accelerator | 'auto';
  kvm: KvmAnswer | undefined;
}): Promise<Requirement[]> {
  const tools = await Promise.all(['unshare', 'setpriv', 'nsenter'].map(toolRequirement));
  return [await qemuRequirement(options.command), ...tools.filter(({ met }) => !met), kvmRequirement(options)];
}

async function qemuRequirement(command: string): Promise<Requirement> {
  const requirement = { name: 'QEMU', essential: true };
  try {
    const qemu = await findQemu(command);
    const memory = sharesMemory(qemu)
      ? ''
      : '; restored guests copy the memory of their template, with 8.2 they would share it';
    return { ...requirement, met: true, detail: `${qemu.version} (${qemu.path}); tested: ${TESTED}${memory}` };
  } catch (error) {
    if (!(error instanceof SandboxError)) throw error;
    return { ...requirement, met: false, detail: error.message, hint: error.hint ?? QEMU_HINT };
  }
}

async function toolRequirement(name: string): Promise<Requirement> {
  const path = await findExecutable(name);
  const requirement = { name, essential: true, met: path !== undefined, detail: path ?? `"${name}" is not on PATH` };
  return path === undefined ? { ...requirement, hint: 'apt-get install util-linux' } : requirement;
}

function kvmRequirement({
  accelerator,
  kvm,
}: {
  accelerator: Accelerator | 'auto';
  kvm: KvmAnswer | undefined;
}): Requirement {
  const requirement = { name: 'KVM', essential: accelerator === 'kvm' };
  const slow = 'guests run without it, some ten times slower';
  if (accelerator === 'tcg') return { ...requirement, met: true, detail: 'not asked for' };
  if (kvm === undefined)
    return { ...requirement, met: true, detail: '/dev/kvm is there; whether a guest boots is tried with the first' };
  const { works, detail } = kvm;
  if (works) return { ...requirement, met: true, detail };
  return {
    ...requirement,
    met: false,
    detail: accelerator === 'auto' ? `${detail}; ${slow}` : detail,
    hint: 'Enable virtualisation in the firmware, or nested virtualisation where this machine is itself virtual',
  };
}
