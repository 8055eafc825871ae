import { Command } from 'commander';
import { addBridgeOptions } from '../bridge-options.ts';
import { action } from '../context.ts';
import type { CleanOptions, Left } from '../leftovers.ts';
import { table } from '../output.ts';
import { defaultStateDir, requireStateFolder, stateDirOption } from '../state-folder.ts';

export const clean = (): Command =>
  addBridgeOptions(
    new Command('clean')
      .description('Remove what nodes and dev services that are gone have left on this machine')
      .addOption(stateDirOption('state folder of the node that is gone'))
      .option('--data-dir <folder>', 'data folder of the dev services that are gone', '.data')
      .option('--cgroup-parent <path>', 'cgroup that its workloads were put below')
      .option('--dry-run', 'only show it'),
  )
    .addHelpText(
      'after',
      '\nOnly what carries the mark of nex is looked at, and what belongs to something that runs stays: containers, virtual' +
        '\nmachines and their images, namespaces, interfaces, addresses, rules of the firewall, control groups, sockets, temporary' +
        '\nfolders, processes. A node, and nex dev, remove their own when they start; this is for machines on which none is to start' +
        '\nany more. Only root sees and removes what is left of sandboxes.' +
        '\n\nExamples:\n  nex clean --dry-run\n  nex clean --state-dir /srv/nex\n  nex clean --bridge-name lab0     of a node that was started with it',
    )
    .action(
      action<CleanOptions>(async (context, { dryRun = false, ...options }) => {
        const { stateDir, dataDir } = options;
        // On a machine that has had no node there may be other things nevertheless.
        if (stateDir !== defaultStateDir()) await requireStateFolder(stateDir);
        const { cleanMachine } = await import('../leftovers.ts');
        const warn = (message: string) => context.say(message);
        const leftovers = await cleanMachine({ ...options, dryRun }, { warn, signal: context.signal });
        return { value: { stateDir, dataDir, dryRun, leftovers }, text: describe(leftovers, dryRun) };
      }),
    );

function describe(found: readonly Left[], dryRun: boolean): string {
  if (found.length === 0) return 'Nothing is left over';
  const rows = found.map(({ kind, name }) => [kind, name]);
  return table(dryRun ? 'Left over, not removed' : 'Removed', ['What', 'Name'], rows);
}
