import { constants } from 'node:fs';
import { open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { findExecutable } from '../../find-executable.ts';
import { SandboxError } from '../../sandbox-error.ts';
import type { Requirement } from '../../sandbox.ts';
import { consoleText } from '../console-text.ts';
import { launchVmm } from '../launch.ts';
import type { Vm, Vmm, VmRecord, VmSpec, VmTemplate } from '../vmm.ts';
import { readProcess, type VmmProcess } from '../vmm-process.ts';
import { bootArguments, sendBoot, sendRestore } from './boot-requests.ts';
import { FirecrackerApi } from './firecracker-api.ts';
import { jailedCommand, plainCommand } from './firecracker-command.ts';
import {
  type Bind,
  CONSOLE_FILE,
  ERROR_FILE,
  FirecrackerFiles,
  NAMES,
  PROCESS_FILE,
  slotName,
} from './firecracker-files.ts';
import { firecrackerRequirements } from './firecracker-requirements.ts';
import { checkTemplate, unfit } from './firecracker-template.ts';
import { featuresOf, type FirecrackerFeatures, isAtLeast, OLDEST, parseVersion } from './firecracker-version.ts';
import { FirecrackerVm } from './firecracker-vm.ts';
import { untilListening } from './until-listening.ts';

export interface FirecrackerOptions {
  /** Name on PATH or path of Firecracker. @default 'firecracker' */
  command?: string;
  /** Whether its jailer starts it: in a root of its own, which holds nothing but the VM's files. @default false */
  jailer?: boolean;
  /** Name on PATH or path of the jailer. @default 'jailer' */
  jailerCommand?: string;
}

/** A Firecracker that was started for a VM and was told nothing yet. */
interface Launched {
  process: VmmProcess;
  api: FirecrackerApi;
  version: string;
  features: FirecrackerFeatures;
}

/**
 * Firecracker, 1.5 to 1.16, on machines with KVM. What it may do to this machine is what its user may: it runs without
 * any right, in a network namespace with nothing but its tap, with its own seccomp filters.
 */
export class FirecrackerVmm implements Vmm {
  readonly name = 'firecracker';
  readonly #command: string;
  readonly #jailer: string | undefined;

  constructor({ command = 'firecracker', jailer = false, jailerCommand = 'jailer' }: FirecrackerOptions = {}) {
    this.#command = command;
    this.#jailer = jailer ? jailerCommand : undefined;
  }

  async check(): Promise<Requirement[]> {
    return firecrackerRequirements({ command: this.#command, jailer: this.#jailer });
  }

  /** @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_VMM_MISSING, SANDBOX_VMM_FAILED */
  async boot(spec: VmSpec): Promise<Vm> {
    bootArguments(spec);
    return this.#start(spec, {
      shown: [],
      send: async ({ api, features }) => sendBoot(api, spec, features),
    });
  }

  /** @throws SandboxError also SANDBOX_TEMPLATE_UNFIT: boot the guest instead */
  async restore(spec: VmSpec, template: VmTemplate): Promise<Vm> {
    return this.#start(spec, {
      shown: [NAMES.state, NAMES.memory].map((name) => [join(template.folder, name), name]),
      send: async ({ api, version, features }) => {
        await checkTemplate(template, {
          shape: spec,
          version,
          tap: features.networkOverrides ? undefined : spec.tap?.name,
        });
        await sendRestore(api, spec, features).catch((error: unknown) => {
          throw unfit(template, (error as Error).message, error);
        });
      },
    });
  }

  async reattach(record: VmRecord): Promise<Vm | undefined> {
    const files = await FirecrackerFiles.find(record.folder);
    const process = await readProcess(join(record.folder, PROCESS_FILE));
    if (files === undefined || process === undefined || !(await process.isIn(files.root))) return undefined;
    const api = new FirecrackerApi(files.root, NAMES.api);
    try {
      const { state, vmm_version: version } = await api.instance();
      if (state === 'Running') return await FirecrackerVm.open({ record, process, files, api, version });
    } catch (error) {
      if (await process.isAlive()) throw error;
    }
    // Its start, or its way to a template, was cut short: nobody knows what it is good for.
    api[Symbol.dispose]();
    await process.kill();
    return undefined;
  }

  async #start(
    spec: VmSpec,
    {
      shown,
      send,
    }: { shown: readonly (readonly [source: string, name: string])[]; send: (launched: Launched) => Promise<void> },
  ): Promise<Vm> {
    // The jailer names folders after the file itself, not after a link to it.
    const command = await realpath(await demand(this.#command, 'Firecracker'));
    const jailer = this.#jailer === undefined ? undefined : await demand(this.#jailer, 'the jailer of Firecracker');
    const jail = jailer === undefined ? undefined : { command, id: spec.id };
    const files = new FirecrackerFiles(spec.folder, { user: spec.user, jail });
    let process: VmmProcess | undefined;
    try {
      const binds = await prepare(files, spec, shown);
      process = await launch(spec, { command, jailer, files, binds });
      const api = await untilListening(process, files);
      const launched = { process, api, ...(await versionOf(api)) };
      await send(launched);
      await files.seal();
      const { vmm, id, folder, slots } = { vmm: this.name, ...spec } as const;
      const made = { shape: spec, tap: spec.tap?.name };
      return await FirecrackerVm.open({ ...launched, record: { vmm, id, folder, slots }, files, made });
    } catch (error) {
      await process?.kill();
      const failure = await explained(error, spec, files);
      await files.remove();
      throw failure;
    }
  }
}

/** Puts all that Firecracker opens where it looks for it. */
async function prepare(
  files: FirecrackerFiles,
  { image: { folder, manifest }, slots }: VmSpec,
  more: readonly (readonly [source: string, name: string])[],
): Promise<Bind[]> {
  await files.make();
  const own = [
    [join(folder, manifest.kernel.file), NAMES.kernel],
    [join(folder, manifest.initrd.file), NAMES.initrd],
    [join(folder, manifest.root.file), NAMES.root],
  ] as const;
  const binds = await Promise.all([...own, ...more].map(async ([source, name]) => files.show(source, name)));
  const empty = Array.from({ length: slots }, (_, slot) => slotName(slot));
  await Promise.all([NAMES.log, ...empty].map(async (name) => files.empty(name)));
  return binds.filter((bind) => bind !== undefined);
}

async function launch(
  spec: VmSpec,
  options: { command: string; jailer: string | undefined; files: FirecrackerFiles; binds: readonly Bind[] },
): Promise<VmmProcess> {
  const { command, jailer, files, binds } = options;
  const { id, folder, user, cgroupEntries, tap } = spec;
  // Open until the process has them, hence the `await` below.
  await using console = await openToAppend(join(folder, CONSOLE_FILE));
  await using errors = await openToAppend(join(folder, ERROR_FILE));
  const common = {
    folder: jailer === undefined ? files.root : folder,
    processFile: join(folder, PROCESS_FILE),
    cgroupEntries,
    namespace: tap?.namespace,
    binds,
    stdout: console.fd,
    stderr: errors.fd,
  };
  // The jailer makes the nodes of its jail itself, and gives up the rights.
  if (jailer !== undefined) return await launchVmm(jailedCommand(command, id, { jailer, folder, user }), common);
  const devices = { paths: ['/dev/kvm', ...(tap === undefined ? [] : ['/dev/net/tun'])], folder: files.deviceFolder };
  return await launchVmm(plainCommand(command, id), { ...common, user, devices });
}

async function versionOf(api: FirecrackerApi): Promise<{ version: string; features: FirecrackerFeatures }> {
  const version = await api.version();
  const parsed = parseVersion(version);
  if (parsed !== undefined && isAtLeast(parsed, OLDEST)) return { version, features: featuresOf(parsed) };
  throw new SandboxError(
    'SANDBOX_VMM_MISSING',
    `Cannot use Firecracker ${version}: it is older than ${OLDEST.join('.')}`,
  );
}

/** Of a start that failed: what Firecracker said of it, unless that is what the error says already. */
async function explained(error: unknown, { id }: VmSpec, files: FirecrackerFiles): Promise<unknown> {
  if (!(error instanceof SandboxError) || error.code !== 'SANDBOX_VMM_FAILED') return error;
  const said = await files.lastWords();
  const words = [said.errors, said.log, said.console].map(consoleText).filter(Boolean);
  const message = `Cannot start the virtual machine "${id}": ${error.message}`;
  return new SandboxError('SANDBOX_VMM_FAILED', [message, ...words].join('\n'), { cause: error, hint: error.hint });
}

async function demand(command: string, what: string): Promise<string> {
  const path = await findExecutable(command);
  if (path !== undefined) return path;
  throw new SandboxError(
    'SANDBOX_VMM_MISSING',
    `Cannot start a virtual machine: ${what}, "${command}", is not installed`,
    {
      hint: 'Install it from https://github.com/firecracker-microvm/firecracker/releases, or use QEMU',
    },
  );
}

/** @throws Error ELOOP when somebody has put a link there */
async function openToAppend(path: string) {
  return open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
}
