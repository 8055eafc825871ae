import type { PushProgress } from '@nex-nix/cache';
import { Command, Option } from 'commander';
import { action, type Context } from '../context.ts';
import { formatBytes } from '../output.ts';
import { parsePairs, parseTags, positive } from '../parse.ts';
import { startAndWait } from '../start-workload.ts';

interface Options {
  name?: string;
  program?: string;
  argv: string[];
  tags?: Record<string, string>;
  lifecycle: 'service' | 'job';
  network?: 'host' | 'none';
  memory?: string;
  pids?: number;
  wait: boolean;
}

export const devrun = (): Command =>
  new Command('devrun')
    .alias('yeet')
    .description('Build, push what is missing, place and run')
    .argument('<installable>', 'store path, flake reference (.#echo) or link into the store (./result)')
    .argument('[variables...]', 'environment of the workload: NAME=VALUE')
    .option('--name <name>', 'name of the workload; default: that of the store path, without its version')
    .option('--program <path>', 'program below the store path; default: the only one in bin/')
    .option(
      '--argv <argument>',
      'argument of the program; may be repeated',
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option('--tags <tags>', 'only on a node with all these tags: k=v;k2=v2', parseTags)
    .addOption(new Option('--lifecycle <lifecycle>', 'how it lives').choices(['service', 'job']).default('service'))
    .addOption(
      new Option('--network <network>', "network of the sandbox; default: the node's").choices(['host', 'none']),
    )
    .option('--memory <size>', "memory limit, for example 256MiB; default: the node's")
    .option(
      '--pids <count>',
      "limit of processes and threads; default: the node's",
      positive('a number of processes', { whole: true }),
    )
    .option('--no-wait', 'return when the node has accepted it, not when it runs')
    .addHelpText('after', '\nExample:\n  nex devrun .#echo GREETING=hi')
    .action(
      action<Options>(async (context, options, installable = '', ...variables) => {
        const environment = parsePairs(variables, 'variable');
        const { resolveInstallable } = await import('@nex-nix/nix');
        const target = await resolveInstallable(installable, {
          signal: context.signal,
          onLog: (line) => context.say(line),
        });
        await checkProgram(target.storePath, options.program ?? (target.subPath || undefined));

        const { nc, client } = await context.client();
        const push = await pushClosure(context, nc, target.storePath);
        const name = options.name ?? target.name;
        const { memory, pids } = options;
        const runRequest = {
          store_path: target.storePath,
          ...defined({ program: options.program ?? (target.subPath || undefined), network: options.network }),
          argv: options.argv,
          environment,
          resources: defined({ memory, pids }),
        };
        const started = await startAndWait(
          context,
          {
            nc,
            client,
            wait: options.wait,
            onAccepted: ({ id, nodeId }) =>
              context.say(
                `🚀 Workload '${name}' accepted. You can now refer to this workload with ID: ${id} on node ${nodeId ?? 'unknown'}`,
              ),
          },
          {
            name,
            description: 'Workload published in devmode',
            tags: options.tags ?? {},
            type: 'nix',
            lifecycle: options.lifecycle,
            runRequest,
          },
        );
        return {
          value: { ...started, storePath: target.storePath, push },
          text: options.wait ? `Workload '${name}' is running` : `Workload '${name}' is starting`,
        };
      }),
    );

/** Finds out before anything is sent whether the store path, where it is on this machine, holds the program. */
async function checkProgram(storePath: string, program: string | undefined): Promise<void> {
  const [{ findProgram }, { NixStore, parseStorePath, queryClosure }] = await Promise.all([
    import('@nex-nix/nix-nexlet'),
    import('@nex-nix/nix'),
  ]);
  const path = parseStorePath(storePath);
  const closure = (await queryClosure(new NixStore(), [path])).map((info) => info.storePath);
  await findProgram({ realPath: (entry) => entry }, { storePath: path, program, closure });
}

async function pushClosure(context: Context, nc: Awaited<ReturnType<Context['connect']>>, storePath: string) {
  const [{ NatsCache }, { NixStore, parseStorePath }] = await Promise.all([
    import('@nex-nix/cache'),
    import('@nex-nix/nix'),
  ]);
  const cache = await NatsCache.open(nc, { signal: context.signal });
  const progress = context.globals.json === true || !process.stderr.isTTY ? undefined : progressLine();
  const report = await cache.push(new NixStore(), [parseStorePath(storePath)], {
    signal: context.signal,
    ...(progress === undefined ? {} : { onProgress: progress.update }),
  });
  progress?.clear();
  const { paths, chunks } = report;
  const sent =
    paths.pushed === 0
      ? 'all there already'
      : `${paths.pushed} pushed, ${formatBytes(report.sentBytes)} in ${chunks.sent} chunks sent`;
  context.say(`Closure of ${storePath}: ${paths.total} paths, ${sent} (${(report.durationMs / 1_000).toFixed(1)} s)`);
  return report;
}

/** One line on the terminal that is written over as bytes go out. */
function progressLine() {
  let shown = 0;
  return {
    update: ({ narBytes }: PushProgress): void => {
      if (Date.now() - shown < 100) return;
      shown = Date.now();
      process.stderr.write(`\rPushing ${formatBytes(narBytes.done)} of ${formatBytes(narBytes.total)}\u001B[K`);
    },
    clear: (): void => void process.stderr.write('\r\u001B[K'),
  };
}

function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as T;
}
