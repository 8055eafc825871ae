import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';

export const cacheUnpin = (): Command =>
  new Command('unpin')
    .description('Remove a name with all its versions; what nothing else keeps may be collected then')
    .argument('<name>', 'as printed by nex cache pins')
    .addHelpText('after', '\nExample:\n  nex cache unpin deployment.production.echo')
    .action(
      action(async (context, _options, name = '') => {
        const cache = await openCache(context);
        if (!(await cache.unpin(name, { signal: context.signal }))) {
          throw new CliError('CLI_PIN_NOT_FOUND', `Cannot unpin "${name}": nothing is pinned under this name`, {
            hint: 'nex cache pins',
          });
        }
        return { value: { name }, text: `Unpinned ${name}` };
      }),
    );
