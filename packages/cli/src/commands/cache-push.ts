import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { describePush, pushTargets } from '../push-targets.ts';

export const cachePush = (): Command =>
  new Command('push')
    .description('Bring store paths and all they refer to into the cache')
    .argument('<installables...>', 'store paths, links into the store, flake references, files or folders')
    .option('--pin <name>', 'keep what was pushed under this name, as nex cache pin does')
    .addHelpText(
      'after',
      '\nExamples:\n  nex cache push .#echo\n  nex cache push ./result --pin echo\n  nix-build | xargs nex cache push',
    )
    .action(
      action<{ pin?: string }>(async (context, { pin }, ...installables) => {
        if (pin !== undefined && installables.length > 1) {
          throw new CliError(
            'CLI_USAGE',
            `Cannot pin ${installables.length} paths under the name "${pin}": it stands for one`,
            { hint: 'Push them, then pin each: nex cache pin NAME PATH' },
          );
        }
        const { resolveInstallable } = await import('@nex-nix/nix');
        const { signal } = context;
        const targets = [];
        for (const text of installables) {
          targets.push(await resolveInstallable(text, { signal, onLog: (line) => context.say(line) }));
        }
        const cache = await openCache(context);
        const report = await pushTargets(context, cache, targets);
        const storePaths = targets.map(({ storePath }) => storePath);
        for (const storePath of storePaths) if (pin !== undefined) await cache.pin(pin, storePath, { signal });
        const lines = [describePush(targets, report)];
        if (pin !== undefined) lines.push(`Pinned as cache:${pin}`);
        return { value: { storePaths, ...report, ...(pin === undefined ? {} : { pin }) }, text: lines.join('\n') };
      }),
    );
