import { Command } from 'commander';
import { parseCached, resolveCached } from '../cached-path.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { positive } from '../parse.ts';

export const cachePin = (): Command =>
  new Command('pin')
    .description('Keep a path and all it refers to under a name, and its last versions too')
    .argument('<name>', 'letters, digits, "-", "_" and dots between them')
    .argument('<path>', 'store path in the cache, or cache:NAME')
    .option('--keep <count>', 'versions kept, this one included; default: 3', positive('a number', { whole: true }))
    .addHelpText(
      'after',
      '\nExamples:\n  nex cache pin echo /nix/store/…-echo-1.0.0\n  nex cache pin echo.stable cache:echo --keep 1\n  nex devrun cache:echo',
    )
    .action(
      action<{ keep?: number }>(async (context, { keep }, name = '', text = '') => {
        const path = await parseCached(text);
        const cache = await openCache(context);
        const { signal } = context;
        const storePath = await resolveCached(cache, path, signal);
        await cache.pin(name, storePath, { signal, ...(keep === undefined ? {} : { keep }) });
        return { value: { name, storePath }, text: `Pinned ${storePath} as cache:${name}` };
      }),
    );
