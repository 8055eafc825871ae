import { readFile } from 'node:fs/promises';
import type { Lifecycle } from '@nex-nix/protocol';
import { Command, Option } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
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
    .description('Start a workload from a start request or a Nexfile')
    .option('--tags <tags>', 'only on a node with all these tags: k=v;k2=v2', parseTags)
    .option('--type <type>', 'type of the workload', 'nix')
    .option('--name <name>', 'name of the workload')
    .option('--description <text>', 'what it is', '')
    .addOption(
      new Option('--lifecycle <lifecycle>', 'how it lives').choices(['service', 'job', 'function']).default('service'),
    )
    .option('--start-request <json>', 'what the nexlet of that type wants, for nix: {"store_path":"/nix/store/…"}')
    .option('-f, --nexfile <file>', 'read all of this from a file (JSON)')
    .option('--no-wait', 'return when the node has accepted it, not when it runs')
    .addHelpText(
      'after',
      '\nExample:\n  nex workload start --name echo --start-request \'{"store_path":"/nix/store/…-echo-1.0.0"}\'',
    )
    .action(
      action<Options>(async (context, options) => {
        const workload = await readWorkload(options);
        const { nc, client } = await context.client();
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
      hint: 'Give --name and --start-request, or --nexfile; nex devrun makes both from a store path',
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
