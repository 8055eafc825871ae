import type { ResolvedInstallable } from '@nex-nix/nix';
import { Command } from 'commander';
import { pinName } from '../cached-path.ts';
import { action, type Context } from '../context.ts';
import { developerKeys } from '../developer-keys.ts';
import {
  addNixOptions,
  describeOutcome,
  type NixOptions,
  type NixTarget,
  nixWorkload,
  sayAccepted,
} from '../nix-workload.ts';
import { cachedTarget } from '../cached-target.ts';
import { openCache } from '../open-cache.ts';
import { parsePairs } from '../parse.ts';
import { describePush, pushTargets } from '../push-targets.ts';
import { startAndWait } from '../start-workload.ts';
import { stopEarlier } from '../stop-earlier.ts';

interface Options extends NixOptions {
  stop: boolean;
  autostop: boolean;
}

export const devrun = (): Command =>
  addNixOptions(
    new Command('devrun')
      .alias('yeet')
      .description('Build, push what is missing, place and run')
      .argument(
        '<installable>',
        'flake reference (.#echo), store path, link into the store (./result), executable file (./server) or cache:NAME',
      )
      .argument('[variables...]', 'environment of the workload: NAME=VALUE; sealed to the nexlet that gets it'),
  )
    .option('--stop', 'stop workloads of the same name in the namespace first', true)
    .option('--no-stop', 'leave them running beside the new one')
    .option('--autostop', 'the same as --stop', true)
    .option('--no-autostop', 'the same as --no-stop')
    .addHelpText(
      'after',
      '\nExamples:\n  nex devrun .#echo GREETING=hi\n  nex devrun ./server --name web       a static binary: no Nix needed to build or ship it\n  nex devrun cache:echo               what is pinned in the cache under that name\n  nex devrun ./check --lifecycle job --follow',
    )
    .action(
      action<Options>(async (context, options, installable = '', ...variables) => {
        const environment = parsePairs(variables, 'variable');
        const pin = pinName(installable);
        const built = pin === undefined ? await build(context, installable, options.program) : undefined;
        const { nc, client } = await context.client();
        const keys = await developerKeys((text) => context.say(text));
        const cache = await openCache(context, nc);
        const push = built === undefined ? undefined : await pushTargets(context, cache, [built]);
        if (built !== undefined && push !== undefined) context.say(describePush([built], push));
        const target = built === undefined ? await cachedTarget(context, cache, installable) : await targetOf(built);
        const workload = nixWorkload(target, options, environment);
        const stopped = options.stop && options.autostop ? await stopEarlier(context, client, workload) : [];
        const started = await startAndWait(
          context,
          {
            nc,
            client,
            wait: options.wait,
            follow: options.follow ?? false,
            onAccepted: sayAccepted(context, workload.name),
          },
          {
            ...workload,
            description: 'Workload published in devmode',
            sender: keys.publisher,
            metadata: { issuer: keys.issuer.getPublicKey() },
          },
        );
        return {
          value: {
            ...started,
            storePath: target.storePath,
            ...(push === undefined ? {} : { push }),
            ...(stopped.length === 0 ? {} : { stopped }),
          },
          text: `Workload '${workload.name}' ${describeOutcome(options)}`,
        };
      }),
    );

async function build(context: Context, installable: string, program: string | undefined): Promise<ResolvedInstallable> {
  const { resolveInstallable } = await import('@nex-nix/nix');
  const target = await resolveInstallable(installable, {
    signal: context.signal,
    onLog: (line) => context.say(line),
  });
  await checkProgram(target, program);
  return target;
}

async function targetOf({ storePath, subPath, name, source }: ResolvedInstallable): Promise<NixTarget> {
  const { queryClosure } = await import('@nex-nix/nix');
  return { storePath, subPath, name, closure: await queryClosure(source, [storePath]) };
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
