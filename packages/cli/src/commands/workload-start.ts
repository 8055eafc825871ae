import type { NatsConnection } from '@nats-io/nats-core';
import type { Lifecycle, NexClient, WorkloadToPlace } from '@nex-nix/protocol';
import { Command, Option } from 'commander';
import { cachedTarget } from '../cached-target.ts';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { findNexfile, type Nexfile, readNexfile } from '../nexfile.ts';
import { addPlacementOptions, nixWorkload, placement, type PlacementOptions } from '../nix-workload.ts';
import { openCache } from '../open-cache.ts';
import { parsePairs, positive } from '../parse.ts';
import {
  checkRunRequestOptions,
  lifecycleOf,
  mergeRunRequest,
  needsOf,
  runRequestOf,
} from '../run-request/run-request.ts';
import { addRunRequestOptions, type RunRequestOptions } from '../run-request/run-request-options.ts';
import { startAndWait } from '../start-workload.ts';

interface Options extends PlacementOptions, RunRequestOptions {
  type?: string;
  name?: string;
  description?: string;
  lifecycle?: Lifecycle;
  startRequest?: string;
  nexfile?: string;
  env?: string[];
  replicas?: number;
  spread?: boolean;
  pack?: boolean;
}

export const workloadStart = (): Command =>
  addPlacementOptions(
    addRunRequestOptions(
      new Command('start')
        .alias('run')
        .alias('deploy')
        .description('Start a workload from a path in the cache, a start request or a Nexfile')
        .argument('[path]', 'store path that is in the cache, or cache:NAME for what is pinned there'),
    ),
  )
    .option('--type <type>', 'type of the workload; default: nix')
    .option('--name <name>', 'name of the workload; default: that of the path or of its pin')
    .option('--description <text>', 'what it is')
    .addOption(
      new Option('--lifecycle <lifecycle>', 'how it lives; default: service').choices(['service', 'job', 'function']),
    )
    .option('--start-request <json>', 'what the nexlet of that type wants, for nix: {"store_path":"/nix/store/…"}')
    .option(
      '-f, --nexfile <file>',
      'read all of this from a file, JSON or YAML; default: ./Nexfile; options are stronger',
    )
    .option(
      '--env <variable>',
      'environment of the workload: NAME=VALUE, sealed to the nexlet that gets it; may be repeated',
      (value: string, all: string[] | undefined) => [...(all ?? []), value],
    )
    .option(
      '--replicas <count>',
      'keep so many of it running, wherever there is room',
      positive('a number of replicas', { whole: true }),
    )
    .option('--spread', 'the same as --strategy spread')
    .option('--pack', 'the same as --strategy pack')
    .addHelpText(
      'after',
      '\nExamples:\n  nex workload start cache:echo\n  nex workload start --nexfile echo.yaml\n  nex workload start cache:echo --replicas 3 --spread\n  nex workload start cache:web --expose 8080 --health http://:8080/ --restart on-failure:5\n  nex workload start cache:resize --trigger images.resize\n  nex workload start --name echo --start-request \'{"store_path":"/nix/store/…-echo-1.0.0"}\'',
    )
    .action(
      action<Options>(async (context, options, path) => {
        checkOptions(options, path);
        const file = await chooseNexfile(options, path);
        const { nc, client } = await context.client();
        const workload = await workloadOf(context, nc, { path, options, file });
        if (options.replicas !== undefined) return startReplicas(context, { nc, client, workload, options });
        const { wait, follow = false } = options;
        const started = await startAndWait(context, { nc, client, wait, follow }, workload);
        return { value: started, text: `Workload ${started.name} [${started.id}] successfully started` };
      }),
    );

/** What to read when nothing on the command line says what to start; another source hides the Nexfile of the folder. */
async function chooseNexfile({ nexfile, startRequest }: Options, path: string | undefined): Promise<Nexfile> {
  if (nexfile !== undefined) return readNexfile(nexfile);
  return path === undefined && startRequest === undefined ? ((await findNexfile()) ?? {}) : {};
}

function checkOptions({ nexfile, type = 'nix', spread, pack }: Options, path: string | undefined): void {
  if (spread === true && pack === true) {
    throw new CliError('CLI_USAGE', 'Cannot spread and pack: name one of --spread and --pack');
  }
  if (path === undefined) return;
  if (nexfile !== undefined) {
    throw new CliError('CLI_USAGE', `Cannot start "${path}" and what the Nexfile "${nexfile}" says: name one of them`);
  }
  if (type !== 'nix') throw new CliError('CLI_USAGE', `Cannot start "${path}" as a workload of type "${type}"`);
}

interface Source {
  path: string | undefined;
  options: Options;
  file: Nexfile;
}

/** The options, else the Nexfile, else the defaults. */
async function workloadOf(
  context: Context,
  nc: NatsConnection,
  { path, options, file }: Source,
): Promise<WorkloadToPlace> {
  const strategy = options.spread === true ? 'spread' : options.pack === true ? 'pack' : options.strategy;
  const environment = { ...file.environment, ...parsePairs(options.env ?? [], 'variable') };
  const tags = options.tags ?? file.tags ?? {};
  const type = options.type ?? file.type ?? 'nix';
  const lifecycle = options.lifecycle ?? file.lifecycle;
  checkRunRequestOptions(options, { type, lifecycle });
  const said =
    options.startRequest === undefined ? file.startRequest : parseJson(options.startRequest, '--start-request');
  const request = said === undefined && path === undefined ? said : mergeRunRequest(said ?? {}, runRequestOf(options));
  const common = {
    description: options.description ?? file.description ?? '',
    type,
    lifecycle: lifecycle ?? lifecycleOf(request),
    ...placement({ ...options, strategy, tags }, environment),
    ...(file.metadata === undefined ? {} : { metadata: file.metadata }),
  };
  if (path !== undefined) {
    const target = await cachedTarget(context, await openCache(context, nc), path);
    const { name, needs } = nixWorkload(target, { ...options, lifecycle: common.lifecycle }, {});
    const program = target.subPath === '' ? {} : { program: target.subPath };
    const runRequest = { ...program, ...(request as object | undefined), store_path: target.storePath };
    return { ...common, name, runRequest, needs: { ...needs, ...needsOf(runRequest) } };
  }
  const name = options.name ?? file.name;
  if (request === undefined || name === undefined) throw nothingToStart(name, file);
  const needs = type === 'nix' ? needsOf(request) : {};
  return { ...common, name, runRequest: request, ...(Object.keys(needs).length === 0 ? {} : { needs }) };
}

function nothingToStart(name: string | undefined, file: Nexfile): CliError {
  const missing = name === undefined ? 'a name' : 'a start request';
  const hasFile = Object.keys(file).length > 0;
  return new CliError('CLI_USAGE', `Cannot start a workload without ${missing}`, {
    hint: hasFile
      ? 'Add name and start_request to the Nexfile'
      : 'Give a path, --name and --start-request, or --nexfile; nex devrun makes all of it from an installable',
  });
}

async function startReplicas(
  context: Context,
  { nc, workload, options }: { nc: NatsConnection; client: NexClient; workload: WorkloadToPlace; options: Options },
) {
  const { startDeployment } = await import('../deployments.ts');
  return startDeployment(context, nc, workload, {
    replicas: options.replicas ?? 1,
    strategy: workload.strategy ?? 'balance',
    wait: options.wait,
  });
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CliError('CLI_USAGE', `Cannot read ${origin}: ${(cause as Error).message}`, { cause });
  }
}
