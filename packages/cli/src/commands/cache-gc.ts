import { Command } from 'commander';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { formatBytes } from '../output.ts';
import { showProgress } from '../progress.ts';
import { formatAge, parseAge, parseBytes } from '../units.ts';

interface Options {
  olderThan?: number;
  maxBytes?: number;
  grace?: number;
  dryRun?: boolean;
}

export const cacheGc = (): Command =>
  new Command('gc')
    .description('Remove content that no path needs, and paths by age or size; never what is pinned')
    .option('--older-than <age>', 'also paths that nobody pushed or asked for since: 30d, 12h, 2w', parseAge)
    .option('--max-bytes <size>', 'also the least recently used paths until no more is stored: 10GiB', parseBytes)
    .option('--grace <age>', 'how long content stays that no path needs any more; default: 10m', parseAge)
    .option('--dry-run', 'only say what would be removed')
    .addHelpText(
      'after',
      '\nExamples:\n  nex cache gc\n  nex cache gc --older-than 30d --dry-run\n  nex cache gc --max-bytes 10GiB',
    )
    .action(
      action<Options>(async (context, options) => {
        const cache = await openCache(context);
        using progress = showProgress(context, 'Collecting', 'The collection itself goes on, in the service');
        const report = await cache.collectGarbage({
          ...options,
          signal: context.signal,
          onProgress: (step) => progress.update({ ...step, text: `${step.phase}, ${step.done} of ${step.total}` }),
        });
        const { paths, manifests, chunks, freedBytes, laterBytes, graceMs, excessBytes, keptPaths, keptBytes } = report;
        const text = [
          `${options.dryRun === true ? 'Would remove' : 'Removed'} ${paths} paths, ${manifests} manifests and ` +
            `${chunks} chunks: ${formatBytes(freedBytes)}`,
          `Kept ${keptPaths} paths, ${formatBytes(keptBytes)}`,
        ];
        if (laterBytes > 0) {
          text.push(
            `${formatBytes(laterBytes)} of it are of no path, but younger than ${formatAge(graceMs)}: pulls and pushes that are ` +
              'under way may need them. They go with a later collection, or now: nex cache gc --grace 0s',
          );
        }
        if (excessBytes > 0) {
          text.push(
            `What is pinned, or being pushed, takes ${formatBytes(excessBytes)} more than --max-bytes: ` +
              'unpin what is not needed (nex cache pins), or allow more',
          );
        }
        return { value: report, text: text.join('\n') };
      }),
    );
