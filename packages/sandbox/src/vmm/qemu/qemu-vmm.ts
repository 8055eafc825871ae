import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../file-errors.ts';
import { SandboxError } from '../../sandbox-error.ts';
import type { Requirement } from '../../sandbox.ts';
import { isAlive } from '../../supervisor/process-identity.ts';
import type { GuestImage, Vm, Vmm, VmRecord, VmSpec, VmTemplate } from '../vmm.ts';
import { ConsoleTail } from './console-tail.ts';
import { launchQemu, PROCESS_FILE, RUN_FOLDER, sealRunFolder } from './launch.ts';
import { loadState, type MigrationSide } from './migration.ts';
import { MachineFacts } from './machine-facts.ts';
import { type KvmAnswer, kvmIsAbsent, probeKvm } from './kvm-probe.ts';
import { machineTscKhz, measureTscKhz } from './tsc-frequency.ts';
import { type Accelerator, QEMU_FILES, type QemuSettings } from './qemu-arguments.ts';
import { QemuEvents } from './qemu-events.ts';
import { QemuProcess } from './qemu-process.ts';
import { qemuRequirements } from './qemu-requirements.ts';
import { findQemu, type Qemu, QEMU_COMMAND, sharesMemory } from './qemu-version.ts';
import { QemuVm } from './qemu-vm.ts';
import { QmpClient } from './qmp-client.ts';
import { demandFit, STATE, templateFacts, unfit } from './template-files.ts';
import { connectUnix } from '../unix-connection.ts';
import { readProcess } from '../vmm-process.ts';

/** How long QEMU may take until its monitor answers. */
const MONITOR_TIMEOUT_MS = 20_000;

export interface QemuVmmOptions {
  /** A folder of this process' alone, for what is found out about this machine. Made when it is missing. */
  stateDir: string;
  /** Name or path of QEMU. @default 'qemu-system-x86_64' */
  command?: string;
  /** `auto`: KVM where a guest really boots with it. @default 'auto' */
  accelerator?: Accelerator | 'auto';
}

interface StartOptions {
  template?: VmTemplate;
  accelerator?: Accelerator;
  /** As a guest does that only tries something. */
  endsWithParent?: boolean;
}

/** QEMU as it was found, and how it runs guests of an image. */
interface Way {
  qemu: Qemu;
  accelerator: Accelerator;
  tscKhz: number | undefined;
}

/** Guests under QEMU, as its machine type `microvm`, with KVM or without. */
export class QemuVmm implements Vmm {
  readonly name = 'qemu';
  readonly #options: Required<QemuVmmOptions>;
  readonly #facts: MachineFacts;

  constructor({ stateDir, command = QEMU_COMMAND, accelerator = 'auto' }: QemuVmmOptions) {
    this.#options = { stateDir, command, accelerator };
    this.#facts = new MachineFacts(stateDir);
  }

  /** With an image, KVM is tried with a guest of it, unless it was since this machine was started. */
  async check(image?: GuestImage): Promise<Requirement[]> {
    const { command, accelerator } = this.#options;
    const qemu = await qemuOrNone(command);
    const tried =
      qemu === undefined || image === undefined || accelerator === 'tcg' ? undefined : this.#kvm(image, qemu);
    return qemuRequirements({ command, accelerator, kvm: (await tried) ?? (await kvmIsAbsent()) });
  }

  async boot(spec: VmSpec): Promise<Vm> {
    return this.#start(spec);
  }

  async restore(spec: VmSpec, template: VmTemplate): Promise<Vm> {
    return this.#start(spec, { template });
  }

  async reattach(record: VmRecord): Promise<Vm | undefined> {
    const process = await processOf(record);
    if (process === undefined) return undefined;
    const run = join(record.folder, RUN_FOLDER);
    const events = new QemuEvents();
    let client: QmpClient;
    try {
      client = await openMonitor({ run, events, process });
    } catch (error) {
      // It had not come so far that it would have had a guest; or it is just going.
      if (!process.isQemu) {
        await process.kill();
        return undefined;
      }
      throw error;
    }
    const { status } = await client.execute('query-status');
    const end = ENDS[status];
    if (status !== 'running' && end === undefined) {
      // Its start, or the making of a template, was cut short.
      client[Symbol.dispose]();
      await process.kill();
      return undefined;
    }
    const console = await ConsoleTail.open(record.folder);
    const vm = new QemuVm({ record, process, client, events, console, fresh: false });
    if (end !== undefined) vm.ended(end);
    return vm;
  }

  async #start(
    spec: VmSpec,
    { template, accelerator: wanted, endsWithParent = false }: StartOptions = {},
  ): Promise<QemuVm> {
    const { qemu, accelerator, tscKhz } = await this.#way(spec.image, wanted);
    const from = template === undefined ? 'boot' : sharesMemory(qemu) ? 'share' : 'copy';
    const settings: QemuSettings = { accelerator, tscKhz, from };
    const facts = templateFacts(spec, { qemu: qemu.version, accelerator, tscKhz });
    if (template !== undefined) await demandFit(template, facts);
    const run = join(spec.folder, RUN_FOLDER);
    const process = await launchQemu(spec, { qemu: qemu.path, settings, template, endsWithParent });
    const events = new QemuEvents();
    try {
      const client = await openMonitor({ run, events, process });
      if (template !== undefined) await this.#load({ client, events, run }, template);
      await sealRunFolder(run, spec.user);
      const { id, folder, slots } = spec;
      const record: VmRecord = { vmm: 'qemu', id, folder, slots };
      const console = await ConsoleTail.open(folder);
      const parts = { record, process, client, events, console };
      // Before the guest runs: it may end within a millisecond.
      const vm = new QemuVm({ ...parts, template: { shape: spec, facts }, fresh: template === undefined });
      await client.execute('cont');
      process.unref();
      return vm;
    } catch (error) {
      await process.kill();
      await rm(run, { recursive: true, force: true });
      await rm(join(spec.folder, PROCESS_FILE), { force: true });
      throw startError(spec, { said: process.said, cause: error });
    }
  }

  /** A state that QEMU does not take is of no use any more. */
  async #load(side: MigrationSide, template: VmTemplate): Promise<void> {
    try {
      await loadState(side, join(template.folder, STATE));
    } catch (cause) {
      if (!(cause instanceof SandboxError)) throw cause;
      throw unfit(template, cause.message, cause);
    }
  }

  async #way(image: GuestImage, wanted: Accelerator | 'auto' = this.#options.accelerator): Promise<Way> {
    const qemu = await findQemu(this.#options.command);
    const hasKvm = wanted === 'kvm' || (wanted === 'auto' && (await this.#kvm(image, qemu)).works);
    if (hasKvm) return { qemu, accelerator: 'kvm', tscKhz: undefined };
    const measure = async () => this.#facts.get(`tsc ${qemu.version}`, async () => measureTscKhz(qemu.path));
    return { qemu, accelerator: 'tcg', tscKhz: machineTscKhz() ?? (await measure()) };
  }

  async #kvm(image: GuestImage, qemu: Qemu): Promise<KvmAnswer> {
    const { stateDir } = this.#options;
    const boot = async (spec: VmSpec) => this.#start(spec, { accelerator: 'kvm', endsWithParent: true });
    return (
      (await kvmIsAbsent()) ?? this.#facts.get(kvmFact(image, qemu), async () => probeKvm(image, { stateDir, boot }))
    );
  }
}

function kvmFact({ manifest }: GuestImage, { version }: Qemu): string {
  return `kvm ${manifest.kernel.sha256} ${version}`;
}

/** How a guest has ended whose QEMU is in this state. */
const ENDS: Partial<Record<string, 'shutdown' | 'panic' | 'failed'>> = {
  shutdown: 'shutdown',
  'guest-panicked': 'panic',
  'internal-error': 'failed',
  'io-error': 'failed',
};

/** The process of a record, if it is there. */
async function processOf({ folder }: VmRecord): Promise<QemuProcess | undefined> {
  const process = await readProcess(join(folder, PROCESS_FILE));
  return process === undefined ? undefined : new QemuProcess(process.identity);
}

/** Connects to QEMU's monitor as soon as there is one. Nothing tells of that, so it tries. */
async function openMonitor({
  run,
  events,
  process,
}: {
  run: string;
  events: QemuEvents;
  process: QemuProcess;
}): Promise<QmpClient> {
  const signal = AbortSignal.timeout(MONITOR_TIMEOUT_MS);
  for (;;) {
    try {
      const socket = await connectUnix(run, QEMU_FILES.monitor, signal);
      return await QmpClient.open(socket, { onEvent: events.emit, signal });
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ECONNREFUSED') || signal.aborted || !(await isAlive(process.identity)))
        throw error;
      await delay(2);
    }
  }
}

/** What QEMU itself has said tells more than that it has gone. */
function startError({ id }: VmSpec, { said, cause }: { said: string; cause: unknown }): unknown {
  if (cause instanceof TypeError) return cause;
  const code = cause instanceof SandboxError ? cause.code : 'SANDBOX_VMM_FAILED';
  const why = said === '' ? (cause as Error).message : said;
  return new SandboxError(code, `Cannot start QEMU for the guest "${id}": ${why}`, { cause });
}

async function qemuOrNone(command: string): Promise<Qemu | undefined> {
  try {
    return await findQemu(command);
  } catch (error) {
    if (error instanceof SandboxError) return undefined;
    throw error;
  }
}
