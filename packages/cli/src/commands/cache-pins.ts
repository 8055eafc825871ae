import { Command } from 'commander';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { table } from '../output.ts';
import { formatAgo } from '../units.ts';

export const cachePins = (): Command =>
  new Command('pins')
    .description('List the names under which paths are kept, the newest version first')
    .addHelpText('after', '\nExamples:\n  nex cache pins\n  nex cache pins --json')
    .action(
      action(async (context) => {
        const cache = await openCache(context);
        const pins = await cache.pins({ signal: context.signal });
        const rows = pins.flatMap(({ name, versions }) =>
          versions.map(({ storePath, since }, i) => [i === 0 ? name : '', storePath, formatAgo(since)]),
        );
        const head = ['Name', 'Path', 'Pinned'];
        return { value: pins, text: rows.length === 0 ? 'Nothing is pinned' : table('Pins', head, rows) };
      }),
    );
