import type { RuntimeName } from '@nex-nix/sandbox';
import { type Command, Option } from 'commander';
import { CliError } from './cli-error.ts';
import { parseFolders } from './parse.ts';
import { wholeNumber } from './run-request/parse-run-options.ts';
import { parseBytes, parseDuration } from './units.ts';

/** Which sandboxes a node has, and what the virtual machines among them are. */
export interface MachineOptions {
  sandbox?: RuntimeName;
  sandboxes?: RuntimeName[];
  guestImage?: string;
  vmm: 'qemu' | 'firecracker';
  accel: 'auto' | 'kvm' | 'tcg';
  jailer?: boolean;
  machinePoolSize: number;
  machineVcpus: number;
  /** What a program can have, in bytes. */
  machineMemory: number;
  /** In milliseconds. */
  machineTimeout: number;
  binPath?: string[];
}

/** Guests do not come up with less, in bytes. */
const LEAST_MEMORY = 96 * 2 ** 20;

/** Adds {@link MachineOptions} to a command. */
export function addMachineOptions(command: Command): Command {
  const size = '256MiB';
  return command
    .addOption(
      new Option(
        '--sandbox <kind>',
        'sandbox of workloads that name none: oci or microvm; default: microvm with --guest-image, else oci',
      ).choices(['oci', 'microvm']),
    )
    .option(
      '--sandboxes <kinds>',
      'the kinds of sandbox that workloads may name; default: that of --sandbox, and the other one where it can be had',
      parseKinds,
    )
    .option('--guest-image <folder>', 'kernel and root image of virtual machines, made by nex guest build')
    .addOption(
      new Option('--vmm <name>', 'what runs virtual machines').choices(['qemu', 'firecracker']).default('qemu'),
    )
    .addOption(
      new Option('--accel <how>', 'how QEMU runs them; auto: by KVM if that boots a guest here, else tcg')
        .choices(['auto', 'kvm', 'tcg'])
        .default('auto'),
    )
    .option('--jailer', 'start Firecracker by its jailer, in a root of its own')
    .option(
      '--machine-pool-size <count>',
      'virtual machines that are kept booted',
      wholeNumber('a number of machines', { least: 0, most: 1_000 }),
      1,
    )
    .option(
      '--machine-vcpus <count>',
      'processors of each of them',
      wholeNumber('a number of processors', { least: 1, most: 255 }),
      1,
    )
    .addOption(
      new Option(
        '--machine-memory <size>',
        'what a program in them can have; for a workload with a higher limit, a larger one is booted',
      )
        .argParser(parseMemory)
        .default(parseMemory(size), size),
    )
    .addOption(
      new Option('--machine-timeout <duration>', 'how long one may take from its start to the first word of its agent')
        .argParser(parseDuration)
        .default(30_000, '30s'),
    )
    .option('--bin-path <folders>', 'folders that programs are looked for in before those of PATH', parseFolders);
}

function parseKinds(text: string): RuntimeName[] {
  const kinds = text.split(',').map((kind) => kind.trim());
  const known = kinds.filter((kind) => kind === 'oci' || kind === 'microvm');
  if (known.length === kinds.length) return [...new Set(known)];
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for kinds of sandboxes: write oci, microvm, or both`);
}

function parseMemory(text: string): number {
  const bytes = parseBytes(text);
  if (bytes >= LEAST_MEMORY) return bytes;
  throw new CliError('CLI_USAGE', `Cannot give machines ${text} of memory: they need 96MiB at least`);
}
