import { Command } from 'commander';
import { parseCached, resolveCached } from '../cached-path.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';

export const cacheRm = (): Command =>
  new Command('rm')
    .alias('remove')
    .description('Take paths out of the cache; their content goes with the next nex cache gc')
    .argument('<paths...>', 'store paths, or cache:NAME')
    .option('--force', 'also what refers to them, and what is pinned')
    .addHelpText('after', '\nExamples:\n  nex cache rm /nix/store/…-echo-1.0.0\n  nex cache rm --force cache:echo')
    .action(
      action<{ force?: boolean }>(async (context, { force = false }, ...texts) => {
        const named = await Promise.all(texts.map(parseCached));
        const cache = await openCache(context);
        const { signal } = context;
        const paths = [];
        for (const path of named) paths.push(await resolveCached(cache, path, signal));
        const report = await cache.remove(paths, { force, signal });
        context.say('Their content goes with: nex cache gc');
        return { value: report, text: report.paths.map((path) => `Removed ${path}`).join('\n') };
      }),
    );
