import type { PathInfo, StorePath } from '@nex-nix/nix';
import type { Lifecycle, PlacementStrategy, WorkloadToPlace } from '@nex-nix/protocol';
import { type Command, Option } from 'commander';
import type { Context } from './context.ts';
import { parseTags } from './parse.ts';
import {
  checkRunRequestOptions,
  lifecycleOf,
  mergeRunRequest,
  needsOf,
  runRequestOf,
} from './run-request/run-request.ts';
import { addRunRequestOptions, type RunRequestOptions } from './run-request/run-request-options.ts';

/** What decides where a workload goes, and how long the command stays with it. */
export interface PlacementOptions {
  tags?: Record<string, string>;
  strategy: PlacementStrategy;
  wait: boolean;
  follow?: boolean;
  allowClearEnvironment?: boolean;
}

/** What is to run of a store path, and how. */
export interface NixOptions extends PlacementOptions, RunRequestOptions {
  name?: string;
  program?: string;
  argv?: string[];
  /** Default: service, or function with triggers. */
  lifecycle?: Lifecycle;
}

/** Adds {@link PlacementOptions} to a command. */
export function addPlacementOptions(command: Command): Command {
  return command
    .option('--tags <tags>', 'only on a node with all these tags: k=v;k2=v2', parseTags)
    .addOption(
      new Option('--strategy <strategy>', 'which of the nodes that can run it')
        .choices(['balance', 'spread', 'pack'])
        .default('balance'),
    )
    .option('--wait', 'return when it runs', true)
    .option('--no-wait', 'return when the node has accepted it')
    .option('--follow', 'print what it prints, until Ctrl-C or its end; a job that fails ends the command with 1')
    .option('--allow-clear-environment', 'send the environment in clear to a nexlet that cannot open a sealed one');
}

/** Adds {@link NixOptions} to a command. */
export function addNixOptions(command: Command): Command {
  const collect = (value: string, all: string[] = []): string[] => [...all, value];
  command
    .option('--name <name>', 'name of the workload; default: that of the store path, without its version')
    .option('--program <path>', 'program below the store path; default: the only one in bin/')
    .option('--argv <argument>', 'argument of the program; may be repeated', collect)
    .addOption(
      new Option('--lifecycle <lifecycle>', 'how it lives; default: service').choices(['service', 'job', 'function']),
    );
  return addPlacementOptions(addRunRequestOptions(command));
}

/** A store path, perhaps a file below it, what to call it, and its closure. */
export interface NixTarget {
  readonly storePath: StorePath;
  readonly subPath: string;
  readonly name: string;
  readonly closure: readonly PathInfo[];
}

/** The workload that runs a store path as the options say; its environment is sealed on the way. */
export function nixWorkload(
  target: NixTarget,
  options: NixOptions,
  environment: Readonly<Record<string, string>>,
): WorkloadToPlace {
  const { program = target.subPath || undefined, argv = [], lifecycle } = options;
  checkRunRequestOptions(options, { type: 'nix', lifecycle });
  const path = { store_path: target.storePath, argv, ...(program === undefined ? {} : { program }) };
  const runRequest = mergeRunRequest(path, runRequestOf(options));
  return {
    name: options.name ?? target.name,
    type: 'nix',
    lifecycle: lifecycle ?? lifecycleOf(runRequest),
    runRequest,
    ...placement(options, environment),
    needs: { ...needsOf(runRequest), closure: largestOf(target.closure) },
  };
}

/** What a workload does when the command that started it has succeeded. */
export function describeOutcome({ follow = false, wait }: PlacementOptions): string {
  if (follow) return 'was started and followed';
  return wait ? 'is running' : 'is starting';
}

/** What {@link PlacementOptions} say, in the terms of the client. */
export function placement(
  { tags = {}, strategy, allowClearEnvironment = false }: PlacementOptions,
  environment: Readonly<Record<string, string>>,
): Pick<WorkloadToPlace, 'tags' | 'strategy' | 'allowClearEnvironment' | 'environment'> {
  const isEmpty = Object.keys(environment).length === 0;
  return { tags, strategy, allowClearEnvironment, ...(isEmpty ? {} : { environment }) };
}

/** What a node without these would have to fetch most of; a list of all would make the auction's message large. */
const CLOSURE_ENTRIES = 64;
const HASH_AT = '/nix/store/'.length;
const HASH_LENGTH = 32;

/** Store hash → NAR size in bytes, of the largest paths. */
function largestOf(closure: readonly PathInfo[]): Record<string, number> {
  const largest = [...closure].sort((a, b) => b.narSize - a.narSize).slice(0, CLOSURE_ENTRIES);
  return Object.fromEntries(
    largest.map(({ storePath, narSize }) => [storePath.slice(HASH_AT, HASH_AT + HASH_LENGTH), narSize]),
  );
}

/** Says to people which node took a workload. */
export function sayAccepted(context: Context, name: string): (placed: { id: string; nodeId?: string }) => void {
  return ({ id, nodeId }) =>
    context.say(
      `🚀 Workload '${name}' accepted. You can now refer to this workload with ID: ${id} on node ${nodeId ?? 'unknown'}`,
    );
}
