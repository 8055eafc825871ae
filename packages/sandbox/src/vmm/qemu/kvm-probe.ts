import { access, constants, mkdir, readdir, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../file-errors.ts';
import { SandboxError } from '../../sandbox-error.ts';
import { identify } from '../../supervisor/process-identity.ts';
import type { GuestImage, VmSpec } from '../vmm.ts';
import type { QemuVm } from './qemu-vm.ts';

/** Whether guests run with KVM here. */
export interface KvmAnswer {
  works: boolean;
  /** Part of a sentence. */
  detail: string;
}

/** Where KVM works, a kernel prints its first line within 0.1 s. */
const FIRST_WORD_MS = 4000;

/** And its agent is there within a few more. */
const AGENT_MS = 20_000;

const LOOK_INTERVAL_MS = 50;

/** Nobody's, as everywhere. */
const NOBODY = 65_534;

const MEMORY = 256 * 1024 * 1024;

/** Has the kernel print everything, from its first moment on. */
const WORDS = 'ignore_loglevel earlyprintk=ttyS0';

/** Folders of guests that try it; then the process that tries, and a random word. */
const PREFIX = '.kvm-probe-';

/** Whether there is KVM at all; undefined when a guest would have to be booted to say more. */
export async function kvmIsAbsent(): Promise<KvmAnswer | undefined> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'EACCES')) throw error;
    return { works: false, detail: error.code === 'ENOENT' ? 'there is no /dev/kvm' : '/dev/kvm may not be used' };
  }
}

/**
 * Boots a guest with KVM, and waits until its agent is there. A device says little: in a virtual machine it may be there,
 * and guests of it hang at their first instruction.
 *
 * @param boot Boots with KVM, whatever is known of it.
 */
export async function probeKvm(
  image: GuestImage,
  { stateDir, boot }: { stateDir: string; boot: (spec: VmSpec) => Promise<QemuVm> },
): Promise<KvmAnswer> {
  await mkdir(stateDir, { recursive: true });
  await removeLost(stateDir);
  const folder = join(stateDir, `${PREFIX}${process.pid}-${randomBytes(4).toString('hex')}`);
  await mkdir(folder);
  try {
    const { manifest } = image;
    const talkative = { ...image, manifest: { ...manifest, commandLine: `${manifest.commandLine} ${WORDS}` } };
    const shape = { image: talkative, vcpus: 1, memory: MEMORY, slots: 0, network: false };
    const vm = await boot({ ...shape, id: 'kvm-probe', folder, user: NOBODY, cgroupEntries: [] });
    try {
      return await watchBoot(vm);
    } finally {
      await vm.kill();
    }
  } catch (error) {
    if (!(error instanceof SandboxError)) throw error;
    const [first = ''] = error.message.split('\n', 1);
    return { works: false, detail: first };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What processes have left that were killed meanwhile; their guests have ended with them. */
async function removeLost(stateDir: string): Promise<void> {
  for (const name of await readdir(stateDir)) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : 0;
    if (pid > 0 && identify(pid) === undefined) await rm(join(stateDir, name), { recursive: true, force: true });
  }
}

async function watchBoot(vm: QemuVm): Promise<KvmAnswer> {
  const began = performance.now();
  const ended = vm.exited.then(({ reason }) => reason);
  const within = async <T>(promise: Promise<T>, ms: number) =>
    Promise.race([promise, ended, delay(ms, undefined, { ref: false })]);
  // Nothing tells of what a guest prints.
  while ((await vm.consoleTail()) === '') {
    const reason = await within(vm.opened, LOOK_INTERVAL_MS);
    if (typeof reason === 'string') return { works: false, detail: `the guest ended at once (${reason})` };
    if (performance.now() - began > FIRST_WORD_MS) {
      return { works: false, detail: `a guest printed nothing in ${FIRST_WORD_MS / 1000} s` };
    }
  }
  const outcome = await within(
    vm.opened.then(() => true),
    AGENT_MS,
  );
  if (outcome === true) return { works: true, detail: `a guest booted in ${Math.round(performance.now() - began)} ms` };
  const how =
    outcome === undefined ? `was not there after ${AGENT_MS / 1000} s` : `was not there when it ended (${outcome})`;
  return { works: false, detail: `a guest's kernel started, but its agent ${how}` };
}
