import type { WorkloadDefaults } from '@nex-nix/nix-nexlet';
import { type Command, Option } from 'commander';
import { positive } from './parse.ts';
import { parseRequestSize } from './run-request/parse-run-options.ts';
import { parseBytes } from './units.ts';

/** What a node gives workloads that ask for nothing. */
export interface WorkloadDefaultsOptions {
  workloadNetwork?: WorkloadDefaults['network'];
  workloadMemory?: number;
  workloadCpus?: number;
  workloadPids?: number;
  workloadTmp?: number;
  workloadLogRate?: number;
}

/** Adds {@link WorkloadDefaultsOptions} to a command. */
export function addWorkloadDefaults(command: Command): Command {
  return command
    .addOption(
      new Option('--workload-network <network>', 'network of workloads that name none; default: host').choices([
        'bridge',
        'host',
        'none',
      ]),
    )
    .option('--workload-memory <size>', 'memory limit of workloads that name none; default: 256MiB', parseLimit)
    .option(
      '--workload-cpus <count>',
      'processor limit of workloads that name none; default: none',
      positive('a number of processors'),
    )
    .option(
      '--workload-pids <count>',
      'limit of processes and threads of workloads that name none; default: 256',
      positive('a number of processes', { whole: true }),
    )
    .option('--workload-tmp <size>', 'size of /tmp of workloads that name none; default: 64MiB', parseLimit)
    .option(
      '--workload-log-rate <size>',
      'what each output stream of workloads that name no rate may have a second; default: 1MiB',
      parseLimit,
    );
}

/** What was given, as the nexlet takes it. */
export function workloadDefaults(options: WorkloadDefaultsOptions): Partial<WorkloadDefaults> {
  const { workloadNetwork, workloadMemory, workloadCpus, workloadPids, workloadTmp, workloadLogRate } = options;
  return {
    ...(workloadNetwork === undefined ? {} : { network: workloadNetwork }),
    ...(workloadMemory === undefined ? {} : { memory: workloadMemory }),
    ...(workloadCpus === undefined ? {} : { cpus: workloadCpus }),
    ...(workloadPids === undefined ? {} : { pids: workloadPids }),
    ...(workloadTmp === undefined ? {} : { tmp: workloadTmp }),
    ...(workloadLogRate === undefined ? {} : { logRate: workloadLogRate }),
  };
}

/** A size above nothing, in bytes. */
function parseLimit(text: string): number {
  return parseBytes(parseRequestSize(text));
}
