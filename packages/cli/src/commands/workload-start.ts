import { readFile } from 'node:fs/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import type { Lifecycle } from '@nex-nix/protocol';
import { Command, Option } from 'commander';
import { pinName, resolveCached } from '../cached-path.ts';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { parseTags } from '../parse.ts';
import { startAndWait } from '../start-workload.ts';

interface Options {
  tags?: Record<string, string>;
  type: string;
  name?: string;
  description: string;
  lifecycle: Lifecycle;
  startRequest?: string;
  nexfile?: string;
  wait: boolean;
}

export const workloadStart = (): Command =>
  new Command('start')
    .alias('run')
    .alias('deploy')
    .description('Start a workload from a path in the cache, a start request or a Nexfile')
    .argument('[path]', 'store path that is in the cache, or cache:NAME for what is pinned there')
    .option('--tags <tags>', 'only on a node with all these tags: k=v;k2=v2', parseTags)
    .option('--type <type>', 'type of the workload', 'nix')
    .option('--name <name>', 'name of the workload; default: that of the path or of its pin')
    .option('--description <text>', 'what it is', '')
    .addOption(
      new Option('--lifecycle <lifecycle>', 'how it lives').choices(['service', 'job', 'function']).default('service'),
    )
    .option('--start-request <json>', 'what the nexlet of that type wants, for nix: {"store_path":"/nix/store/…"}')
    .option('-f, --nexfile <file>', 'read all of this from a file (JSON)')
    .option('--no-wait', 'return when the node has accepted it, not when it runs')
    .addHelpText(
      'after',
      '\nExamples:\n  nex workload start cache:echo\n  nex workload start --name echo --start-request \'{"store_path":"/nix/store/…-echo-1.0.0"}\'',
    )
    .action(
      action<Options>(async (context, options, path) => {
        checkOptions(options, path);
        const given = path === undefined ? await readWorkload(options) : undefined;
        const { nc, client } = await context.client();
        const workload = given ?? (await cachedWorkload(context, nc, { path: path ?? '', options }));
        const { id, name } = await startAndWait(context, { nc, client, wait: options.wait }, workload);
        return { value: { id, name }, text: `Workload ${name} [${id}] successfully started` };
      }),
    );

interface WorkloadFile {
  name: string;
  description?: string;
  tags?: Record<string, string>;
  type: string;
  lifecycle: Lifecycle;
  start_request: unknown;
}

function checkOptions({ nexfile, type }: Options, path: string | undefined): void {
  if (path === undefined) return;
  if (nexfile !== undefined) {
    throw new CliError('CLI_USAGE', `Cannot start "${path}" and what the Nexfile "${nexfile}" says: name one of them`);
  }
  if (type !== 'nix') throw new CliError('CLI_USAGE', `Cannot start "${path}" as a workload of type "${type}"`);
}

/** A workload that runs a path of the cache; a start request, if there is one, says the rest. */
async function cachedWorkload(
  context: Context,
  nc: NatsConnection,
  { path: text, options }: { path: string; options: Options },
) {
  const { splitStorePath, storePathPackageName } = await import('@nex-nix/nix');
  const pin = pinName(text);
  const path = pin === undefined ? text : await resolveCached(await openCache(context, nc), { pin }, context.signal);
  const request = options.startRequest === undefined ? {} : parseJson(options.startRequest, '--start-request');
  return {
    name: options.name ?? pin ?? storePathPackageName(splitStorePath(path).storePath),
    description: options.description,
    tags: options.tags ?? {},
    type: options.type,
    lifecycle: options.lifecycle,
    runRequest: { ...(request as object), store_path: path },
  };
}

async function readWorkload(options: Options) {
  if (options.nexfile !== undefined) {
    const file = await readNexfile(options.nexfile);
    return {
      name: file.name,
      description: file.description ?? '',
      tags: file.tags ?? {},
      type: file.type,
      lifecycle: file.lifecycle,
      runRequest: file.start_request,
    };
  }
  if (options.startRequest === undefined || options.name === undefined) {
    throw new CliError('CLI_USAGE', 'Cannot start a workload without a name and a start request', {
      hint: 'Give a path, --name and --start-request, or --nexfile; nex devrun makes all of it from an installable',
    });
  }
  return {
    name: options.name,
    description: options.description,
    tags: options.tags ?? {},
    type: options.type,
    lifecycle: options.lifecycle,
    runRequest: parseJson(options.startRequest, '--start-request'),
  };
}

async function readNexfile(path: string): Promise<WorkloadFile> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CliError(
      'CLI_USAGE',
      `Cannot read the Nexfile "${path}": ${cause.code === 'ENOENT' ? 'there is no such file' : cause.message}`,
      { cause },
    );
  });
  const file = parseJson(text, path) as Partial<WorkloadFile>;
  for (const key of ['name', 'type', 'lifecycle', 'start_request'] as const) {
    if (file[key] === undefined)
      throw new CliError('CLI_USAGE', `Cannot use the Nexfile "${path}": it has no "${key}"`);
  }
  return file as WorkloadFile;
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CliError('CLI_USAGE', `Cannot read ${origin}: ${(cause as Error).message}`, { cause });
  }
}
