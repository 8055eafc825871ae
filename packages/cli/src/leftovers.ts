import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { areDevServicesRunning, cleanDevServices, type DevLeftover, devNodeFolder } from '@nex-nix/devenv';
import {
  type CleanOptions as SandboxClean,
  endProcessesAt,
  type Leftover,
  lostTemporaryFolders,
  MicrovmRuntime,
  type NetworkOptions,
  OciRuntime,
  processesAt,
} from '@nex-nix/sandbox';
import { type BridgeOptions, bridgeNetwork } from './bridge-options.ts';
import { trialState } from './preflight/sandbox-group.ts';
import { holdStateFolder, machinesIn, sandboxesIn } from './state-folder.ts';

export interface CleanOptions extends BridgeOptions {
  /** Of a node; may be missing. */
  stateDir: string;
  /** Of dev services; may be missing. */
  dataDir: string;
  /** Cgroup that the node's workloads were put below. @default '/' */
  cgroupParent?: string;
  /** Whether everything is left where it is. */
  dryRun?: boolean;
}

/** Something that was left; the machine has but one of that kind and name. */
export type Left = DevLeftover | Leftover;

/**
 * Removes what processes of nex that are gone have left on this machine, and gives what that was, or what it would be.
 *
 * @throws {CliError} CLI_STATE_FOLDER_IN_USE when a node runs on the state folder
 */
export async function cleanMachine(
  { stateDir, dataDir, cgroupParent, dryRun = false, ...bridge }: CleanOptions,
  { warn, signal }: { warn: (message: string) => void; signal: AbortSignal },
): Promise<Left[]> {
  const network = await bridgeNetwork(bridge, warn);
  const found = new Map<string, Left>();
  const add = (left: readonly Left[]) => {
    for (const one of left) found.set(`${one.kind} ${one.name}`, one);
    signal.throwIfAborted();
  };
  const clean = { network, dryRun, ...(cgroupParent === undefined ? {} : { cgroupParent }) };
  add(await cleanDevServices(dataDir, { dryRun, signal }));
  if (!isRoot()) warn('Sandboxes are left out: only root can make and remove them');
  add(await cleanNode(stateDir, clean));
  const devNode = devNodeFolder(dataDir);
  const isOther = resolve(devNode) !== resolve(stateDir);
  if (isOther && existsSync(devNode) && !areDevServicesRunning(dataDir)) add(await cleanNode(devNode, clean));
  for (const folder of await lostTemporaryFolders()) add(await cleanTemporary(folder, clean));
  return [...found.values()];
}

interface Clean extends SandboxClean {
  network: NetworkOptions;
  cgroupParent?: string;
}

/** Whatever a node may have made sandboxes with. The folder is held meanwhile: a node that started would make what looks left over. */
async function cleanNode(stateDir: string, clean: Clean): Promise<Left[]> {
  using _state = await holdStateFolder(stateDir);
  return [
    ...(await cleanContainers(sandboxesIn(stateDir), clean)),
    ...(await cleanMachines(machinesIn(stateDir), clean)),
  ];
}

/** What a trial of sandboxes has left, whichever runtime it was of. */
async function cleanTemporary(folder: string, clean: Clean): Promise<Left[]> {
  const state = trialState(folder);
  const processes = await processesAt(folder);
  const orphaned = { ...clean, orphaned: true };
  const found = [...(await cleanContainers(state, orphaned)), ...(await cleanMachines(state, orphaned))];
  if (!clean.dryRun) {
    await endProcessesAt(folder);
    await rm(folder, { recursive: true, force: true });
  }
  const alone = processes.map((pid) => ({ kind: 'process' as const, name: String(pid) }));
  return [...found, ...alone, { kind: 'folder', name: folder }];
}

async function cleanContainers(stateDir: string, { dryRun, orphaned = false, ...where }: Clean): Promise<Leftover[]> {
  if (!isRoot()) return [];
  await using runtime = await OciRuntime.open({ stateDir, ...where, tidy: false });
  return runtime.clean({ dryRun, orphaned });
}

async function cleanMachines(stateDir: string, { dryRun, orphaned = false, ...where }: Clean): Promise<Leftover[]> {
  if (!isRoot() || !existsSync(stateDir)) return [];
  await using runtime = await MicrovmRuntime.open({ stateDir, ...where, tidy: false });
  return runtime.clean({ dryRun, orphaned });
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
