import { randomBytes } from 'node:crypto';
import { GuestError, type GuestStorePath } from '@nex-nix/guest';
import { SandboxError } from '../sandbox-error.ts';
import type { ClosurePath, SandboxSpec } from '../sandbox.ts';
import type { VmAttachment } from '../network/vm-networks.ts';
import type { GuestImage } from '../vmm/vmm.ts';
import type { GuestMachine } from './guest-machine.ts';
import { consoleText } from './handshake.ts';

/** Slots of a machine: the first can only be read, the second be written. */
const CLOSURE_SLOT = 0;
const SCRATCH_SLOT = 1;

/** Size of `/tmp` when nothing is said. */
const DEFAULT_TMP = 64 << 20;

/** What is asked of a guest is little; one that takes longer is stuck. A scratch disk is formatted, too. */
const REQUEST_TIMEOUT_MS = 60_000;

/** Bytes of random numbers that a guest's generator is given. */
const SEED_BYTES = 64;

/** What of a closure a guest's image has, and what has to be on a disk. */
export interface ClosurePlan {
  closure: GuestStorePath[];
  disk: ClosurePath[];
}

export function planClosure(closure: readonly ClosurePath[], { manifest }: GuestImage): ClosurePlan {
  const present = new Set(manifest.storePaths.map(({ storePath }) => storePath));
  return {
    closure: closure.map(({ storePath }) => ({ storePath, from: present.has(storePath) ? 'image' : 'disk' })),
    disk: closure.filter(({ storePath }) => !present.has(storePath)),
  };
}

export interface FileSystemParts {
  plan: ClosurePlan;
  /** File of the disk that has what the plan says; undefined when that is nothing. */
  disk: string | undefined;
  /** File of a writable disk for `/tmp`. */
  scratch: string | undefined;
  attachment: VmAttachment;
}

/** Makes a guest the one that a program is to run in: who it is, and what its program sees. */
export async function prepareGuest(
  machine: GuestMachine,
  spec: SandboxSpec,
  { plan, disk, scratch, attachment, signal }: FileSystemParts & { signal?: AbortSignal | undefined },
): Promise<void> {
  const { vm, connection } = machine;
  const options = { signal, timeoutMs: REQUEST_TIMEOUT_MS };
  const { resources, privateFolder } = spec;
  await Promise.all([
    connection.request(
      {
        type: 'identify',
        hostname: spec.id,
        time: Date.now(),
        seed: randomBytes(SEED_BYTES).toString('base64'),
        hosts: hostsOf(spec),
        resolvConf: attachment.resolvConf,
        ...(attachment.network === undefined ? {} : { network: attachment.network }),
      },
      options,
    ),
    disk === undefined ? undefined : vm.attach(CLOSURE_SLOT, disk, { writable: false }),
    scratch === undefined ? undefined : vm.attach(SCRATCH_SLOT, scratch, { writable: true }),
  ]);
  await connection.request(
    {
      type: 'prepare',
      ...(disk === undefined ? {} : { disk: CLOSURE_SLOT }),
      closure: plan.closure,
      tmp: resources.tmp ?? DEFAULT_TMP,
      ...(scratch === undefined ? {} : { scratch: SCRATCH_SLOT }),
      ...(privateFolder === undefined
        ? {}
        : { privateFolder: { ...privateFolder, files: { ...privateFolder.files } } }),
    },
    options,
  );
}

/** Has the program of a spec executed in a guest that is prepared. `memory`: see `programMemory()`. */
export async function executeInGuest(
  { connection }: GuestMachine,
  spec: SandboxSpec,
  { memory, stdin, signal }: { memory: number; stdin?: Uint8Array; signal?: AbortSignal | undefined },
): Promise<void> {
  const { cpus, pids } = spec.resources;
  const limits = {
    memory,
    ...(cpus === undefined ? {} : { cpus }),
    ...(pids === undefined ? {} : { pids }),
  };
  const { program, argv, environment } = spec;
  const input = stdin === undefined ? {} : { stdin: Buffer.from(stdin).toString('base64') };
  await connection.request(
    { type: 'start', program, argv: [...argv], environment: { HOME: '/tmp', ...environment }, limits, ...input },
    { signal, timeoutMs: REQUEST_TIMEOUT_MS },
  );
}

/** What a start that failed in a guest is called here. Its program was looked at before, on this machine. */
export async function startFailure(error: unknown, spec: SandboxSpec, machine: GuestMachine): Promise<unknown> {
  if (!(error instanceof GuestError)) return error;
  const fail = (state: string, hint?: string) =>
    new SandboxError('SANDBOX_START_FAILED', `Cannot start "${spec.program}": ${state}`, { hint, cause: error });
  if (error.code === 'GUEST_REFUSED') {
    if (error.message.includes('interpreter')) {
      return fail(
        'the interpreter or dynamic loader that it names is not in its closure',
        'Build it with Nix, which rewrites these, or link it statically',
      );
    }
    if (error.refusal === 'program-not-executable') {
      return fail('it is no program for this machine', `file ${spec.program}`);
    }
    return fail(error.message);
  }
  return fail(`${error.message}; ${await consoleText(machine.vm)}`);
}

/** Whether `/tmp` is larger than the memory that a program can have, and so of use only on a disk. */
export function wantsScratch({ tmp, memory }: SandboxSpec['resources'], machineMemory: number): boolean {
  return tmp !== undefined && tmp > Math.min(memory ?? machineMemory, machineMemory);
}

function hostsOf({ id, hosts = {} }: SandboxSpec): string {
  const named = Object.entries(hosts).map(([address, names]) => `${address} ${names.join(' ')}\n`);
  return `127.0.0.1 localhost ${id}\n::1 localhost\n${named.join('')}`;
}
