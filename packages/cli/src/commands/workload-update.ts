import { Command } from 'commander';
import { cachedTarget } from '../cached-target.ts';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { follow, openDeployments } from '../deployments.ts';
import { nixWorkload } from '../nix-workload.ts';
import { openCache } from '../open-cache.ts';
import { parsePairs } from '../parse.ts';
import { checkRunRequestOptions, mergeRunRequest, needsOf, runRequestOf } from '../run-request/run-request.ts';
import { addRunRequestOptions, type RunRequestOptions } from '../run-request/run-request-options.ts';

interface Options extends RunRequestOptions {
  startRequest?: string;
  env?: string[];
  wait: boolean;
}

export const workloadUpdate = (): Command =>
  addRunRequestOptions(
    new Command('update')
      .description(
        'Replace the replicas of a workload by a new version, step by step; a version that fails is rolled back',
      )
      .argument('<name>', 'as printed by nex workload status')
      .argument('[path]', 'store path that is in the cache, or cache:NAME for what is pinned there'),
  )
    .option('--start-request <json>', 'what changes of the start request; the rest stays as it is')
    .option(
      '--env <variable>',
      'the environment anew: NAME=VALUE; may be repeated. Default: as it is',
      (value: string, all?: string[]) => [...(all ?? []), value],
    )
    .option('--wait', 'return when the new version runs', true)
    .option('--no-wait', 'return at once')
    .addHelpText('after', '\nExamples:\n  nex workload update web cache:web\n  nex workload update web --memory 512MiB')
    .action(
      action<Options>(async (context, options, name = '', path) => {
        const { startRequest, env, wait } = options;
        const given = runRequestOf(options);
        if (path === undefined && startRequest === undefined && env === undefined && Object.keys(given).length === 0) {
          throw new CliError('CLI_USAGE', `Cannot update "${name}": nothing is said to change`, {
            hint: 'Give a path, --start-request, --env, or options such as --memory',
          });
        }
        const changes = startRequest === undefined ? {} : parseObject(startRequest);
        const { nc } = await context.client();
        const target = path === undefined ? undefined : await targetOf(context, nc, path);
        const deployments = await openDeployments(context, nc);
        const deployment = await deployments.update(name, {
          revise: (old) => {
            if (target !== undefined && old.type !== 'nix') {
              throw new CliError(
                'CLI_USAGE',
                `Cannot run "${path}" as "${name}": it is a workload of type "${old.type}"`,
              );
            }
            checkRunRequestOptions(options, { type: old.type, lifecycle: 'service' });
            const revised = { ...(old.runRequest as object), ...target?.runRequest, ...changes };
            const runRequest = mergeRunRequest(revised, given);
            if (old.type !== 'nix') return { ...old, runRequest };
            // What the request says is said anew; the closure stays known.
            const { closure } = { ...old.needs, ...target?.needs };
            const known = closure === undefined ? {} : { closure };
            return { ...old, runRequest, needs: { ...known, ...needsOf(runRequest) } };
          },
          ...(env === undefined ? {} : { environment: parsePairs(env, 'variable') }),
        });
        return follow(context, { deployments, deployment, wait });
      }),
    );

/** What a path changes: what it runs, and how much of that nodes have already. */
async function targetOf(context: Context, nc: Awaited<ReturnType<Context['client']>>['nc'], path: string) {
  const target = await cachedTarget(context, await openCache(context, nc), path);
  const options = { lifecycle: 'service', strategy: 'balance', wait: false } as const;
  const { needs } = nixWorkload(target, options, {});
  const program = target.subPath === '' ? {} : { program: target.subPath };
  return { runRequest: { ...program, store_path: target.storePath }, needs };
}

function parseObject(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CliError('CLI_USAGE', `Cannot read --start-request: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new CliError('CLI_USAGE', 'Cannot read --start-request: it is no JSON object');
}
