import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Logger } from '@nex-nix/nexlet';
import type { NodeRuntimes } from '@nex-nix/nix-nexlet';
import {
  FirecrackerVmm,
  type MicrovmEvent,
  MicrovmRuntime,
  type NetworkOptions,
  OciRuntime,
  QemuVmm,
  type Requirement,
  type Runtime,
  type RuntimeName,
  type Vmm,
} from '@nex-nix/sandbox';
import { type BridgeOptions, bridgeNetwork } from './bridge-options.ts';
import { CliError } from './cli-error.ts';
import type { MachineOptions } from './machine-options.ts';
import { machinesIn, sandboxesIn } from './state-folder.ts';

/** What decides which sandboxes a node has. */
export interface RuntimesOptions extends BridgeOptions, MachineOptions {
  stateDir: string;
  allowUnlimited?: boolean;
  cgroupParent?: string;
}

export interface Surroundings {
  logger: Logger;
  /** Closes what is opened. */
  stack: AsyncDisposableStack;
  onEvent: (event: MicrovmEvent) => void;
}

/** What all runtimes are opened with. */
interface Common {
  cgroupParent?: string;
  network: NetworkOptions;
}

/** The runtimes of a node, and its default. */
export interface OpenedRuntimes {
  readonly runtimes: NodeRuntimes;
  readonly sandbox: RuntimeName;
  /** Absent where nothing has ever run in virtual machines. */
  readonly microvm?: MicrovmRuntime | undefined;
}

/**
 * Opens the runtimes of a node, and finds out before anything is started whether their sandboxes can run here at all. Also
 * opens those that are not asked for any more, where an earlier node has left something in them.
 *
 * @throws {CliError} CLI_USAGE, CLI_MACHINE_UNFIT
 */
export async function openRuntimes(options: RuntimesOptions, surroundings: Surroundings): Promise<OpenedRuntimes> {
  const { logger, stack } = surroundings;
  const kinds = kindsOf(options);
  const { stateDir, allowUnlimited = false, cgroupParent, binPath = [] } = options;
  process.env['PATH'] = [...binPath, process.env['PATH']].filter((part) => part !== undefined).join(delimiter);
  const common = {
    ...(cgroupParent === undefined ? {} : { cgroupParent }),
    network: await bridgeNetwork(options, (message) => logger.warn({ network: options.cniNetwork }, message)),
  };
  const oci = stack.use(await OciRuntime.open({ ...common, stateDir: sandboxesIn(stateDir), allowUnlimited }));
  const hasOci = kinds.wanted.has('oci') && (await isFit(oci, { kinds, logger }));
  const hasMicrovm = kinds.wanted.has('microvm');
  const isThere = hasMicrovm || existsSync(machinesIn(stateDir));
  const microvm = isThere ? await openMicrovm(options, { ...surroundings, common, offered: hasMicrovm }) : undefined;
  if (hasMicrovm && microvm !== undefined) await isFit(microvm, { kinds, logger });
  const former = [hasOci ? undefined : oci, hasMicrovm ? undefined : microvm].filter((one) => one !== undefined);
  const runtimes = { oci: hasOci ? oci : undefined, microvm: hasMicrovm ? microvm : undefined, former };
  return { runtimes, sandbox: kinds.sandbox, microvm };
}

/** Virtual machines by these options. Not `offered`: nothing is kept ready, and nothing can be made. */
async function openMicrovm(
  options: RuntimesOptions,
  { stack, onEvent, common, offered }: Surroundings & { common: Common; offered: boolean },
): Promise<MicrovmRuntime> {
  const { guestImage, machinePoolSize: poolSize, machineVcpus: vcpus, machineMemory: memory } = options;
  const { machineTimeout: handshakeTimeoutMs } = options;
  const stateDir = machinesIn(options.stateDir);
  return stack.use(
    await MicrovmRuntime.open({
      ...common,
      stateDir,
      ...(offered ? { guestImage } : {}),
      vmm: vmmOf(options, stateDir),
      poolSize,
      vcpus,
      memory,
      handshakeTimeoutMs,
      onEvent,
    }),
  );
}

/**
 * What runs virtual machines by these options.
 *
 * @throws {CliError} CLI_USAGE
 */
export function vmmOf(
  { vmm, accel, jailer = false }: Pick<MachineOptions, 'vmm' | 'accel' | 'jailer'>,
  stateDir: string,
): Vmm {
  if (vmm === 'qemu' && jailer) throw new CliError('CLI_USAGE', 'Cannot start QEMU by a jailer: it is of Firecracker');
  if (vmm === 'qemu') return new QemuVmm({ stateDir: join(stateDir, '.vmm'), accelerator: accel });
  if (accel !== 'tcg') return new FirecrackerVmm({ jailer });
  throw new CliError('CLI_USAGE', 'Cannot run Firecracker without KVM: it knows no other way', {
    hint: 'Leave --accel out, or give --vmm qemu',
  });
}

/**
 * Whether a runtime's sandboxes can run on this machine.
 *
 * @throws {CliError} CLI_MACHINE_UNFIT when they must and cannot
 */
async function isFit(runtime: Runtime, { kinds, logger }: { kinds: Kinds; logger: Logger }): Promise<boolean> {
  const unmet = (await runtime.check()).filter(({ essential, met }) => essential && !met);
  if (unmet.length === 0) return true;
  const { name } = runtime;
  if (kinds.essential.has(name)) throw unfit(unmet);
  logger.info({ missing: unmet.map(({ name: what }) => what) }, `this machine has no sandboxes of the kind "${name}"`);
  return false;
}

interface Kinds {
  /** Of workloads that name none. */
  readonly sandbox: RuntimeName;
  /** Without these the node does not run. */
  readonly essential: ReadonlySet<RuntimeName>;
  readonly wanted: ReadonlySet<RuntimeName>;
}

/**
 * Which sandboxes options ask for.
 *
 * @throws {CliError} CLI_USAGE
 */
export function kindsOf({ sandbox, sandboxes, guestImage }: Partial<MachineOptions>): Kinds {
  const hasImage = guestImage !== undefined;
  const usual = hasImage && (sandboxes?.includes('microvm') ?? true) ? 'microvm' : (sandboxes?.[0] ?? 'oci');
  const standard = sandbox ?? usual;
  if (sandboxes !== undefined && !sandboxes.includes(standard)) {
    throw new CliError('CLI_USAGE', `Cannot run workloads in ${standard} by default: --sandboxes does not have it`);
  }
  const essential = new Set(sandboxes ?? [standard, ...(hasImage ? (['microvm'] as const) : [])]);
  if (essential.has('microvm') && !hasImage) {
    throw new CliError('CLI_USAGE', 'Cannot run virtual machines without a guest image', {
      hint: 'Build one by nex guest build, and give its folder by --guest-image',
    });
  }
  return { sandbox: standard, essential, wanted: sandboxes === undefined ? new Set([...essential, 'oci']) : essential };
}

function unfit(unmet: readonly Requirement[]): CliError {
  const [{ hint } = {}] = unmet;
  return new CliError(
    'CLI_MACHINE_UNFIT',
    `Cannot run a node on this machine: ${unmet.map(({ name, detail }) => `${name}: ${detail}`).join('; ')}`,
    { hint },
  );
}
