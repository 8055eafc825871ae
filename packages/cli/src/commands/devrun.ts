import type { NatsCache } from '@nex-nix/cache';
import type { ResolvedInstallable } from '@nex-nix/nix';
import { Command, Option } from 'commander';
import { pinName, resolveCached } from '../cached-path.ts';
import { action, type Context } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { parsePairs, parseTags, positive } from '../parse.ts';
import { describePush, pushTargets } from '../push-targets.ts';
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
    .argument(
      '<installable>',
      'flake reference (.#echo), store path, link into the store (./result), executable file (./server) or cache:NAME',
    )
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
    .addHelpText(
      'after',
      '\nExamples:\n  nex devrun .#echo GREETING=hi\n  nex devrun ./server --name web       a static binary: no Nix needed to build or ship it\n  nex devrun cache:echo               what is pinned in the cache under that name',
    )
    .action(
      action<Options>(async (context, options, installable = '', ...variables) => {
        const environment = parsePairs(variables, 'variable');
        const pin = pinName(installable);
        const built = pin === undefined ? await build(context, installable, options.program) : undefined;
        const { nc, client } = await context.client();
        const cache = await openCache(context, nc);
        const push = built === undefined ? undefined : await pushTargets(context, cache, [built]);
        const target: Target = built ?? (await pinned(context, cache, pin ?? installable));
        if (built !== undefined && push !== undefined) context.say(describePush([built], push));
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
          value: { ...started, storePath: target.storePath, ...defined({ push }) },
          text: options.wait ? `Workload '${name}' is running` : `Workload '${name}' is starting`,
        };
      }),
    );

/** What is to run: a store path, perhaps a file below it, and what to call it. */
type Target = Pick<ResolvedInstallable, 'storePath' | 'subPath' | 'name'>;

async function build(context: Context, installable: string, program: string | undefined): Promise<ResolvedInstallable> {
  const { resolveInstallable } = await import('@nex-nix/nix');
  const target = await resolveInstallable(installable, {
    signal: context.signal,
    onLog: (line) => context.say(line),
  });
  await checkProgram(target, program);
  return target;
}

async function pinned(context: Context, cache: NatsCache, pin: string): Promise<Target> {
  return { storePath: await resolveCached(cache, { pin }, context.signal), subPath: '', name: pin };
}

/** Finds out before anything is sent whether the store path, as it is on this machine, holds a program that can start. */
async function checkProgram(target: ResolvedInstallable, named: string | undefined): Promise<void> {
  const [{ findProgram, requireStandalone }, { queryClosure }] = await Promise.all([
    import('@nex-nix/nix-nexlet'),
    import('@nex-nix/nix'),
  ]);
  const { storePath, subPath, source, published } = target;
  const program = named ?? (subPath || undefined);
  if (published !== undefined && program !== undefined && program === subPath) return requireStandalone(published);
  const closure = (await queryClosure(source, [storePath])).map((info) => info.storePath);
  await findProgram({ realPath: (path) => published ?? path }, { storePath, program, closure });
}

function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as T;
}
