import { existsSync } from 'node:fs';
import type { Leftover, Runtime } from '@nex-nix/sandbox';
import { Command } from 'commander';
import { addBridgeOptions, type BridgeOptions, bridgeNetwork } from '../bridge-options.ts';
import { action } from '../context.ts';
import { table } from '../output.ts';
import { defaultStateDir, machinesIn, requireStateFolder, sandboxesIn, takeStateFolder } from '../state-folder.ts';

interface Options extends BridgeOptions {
  stateDir: string;
  dryRun?: boolean;
}

export const clean = (): Command =>
  addBridgeOptions(
    new Command('clean')
      .description('Remove what a node that is gone has left on this machine')
      .option('--state-dir <folder>', 'state folder of the node that is gone', defaultStateDir())
      .option('--dry-run', 'only show it'),
  )
    .addHelpText(
      'after',
      '\nOnly what carries the mark of nex is looked at, and what belongs to a running workload stays. A node does the same' +
        '\nwhen it starts; this is for machines on which none is to start any more.' +
        '\n\nExamples:\n  nex clean --dry-run\n  nex clean --state-dir /srv/nex\n  nex clean --bridge-name lab0     of a node that was started with it',
    )
    .action(
      action<Options>(async (context, options) => {
        const { stateDir, dryRun = false } = options;
        await requireStateFolder(stateDir);
        // Held until all is done: a node that started meanwhile would make what looks left over.
        using _state = await takeStateFolder(stateDir);
        const found: Leftover[] = [];
        for await (const runtime of runtimesOf(options, (message) => context.say(message))) {
          context.signal.throwIfAborted();
          found.push(...((await runtime.clean?.({ dryRun })) ?? []));
        }
        return { value: { stateDir, dryRun, leftovers: found }, text: describe(found, dryRun) };
      }),
    );

/** Whatever a node may have made sandboxes with; each is let go of before the next comes. */
async function* runtimesOf({ stateDir, ...bridge }: Options, warn: (text: string) => void): AsyncIterable<Runtime> {
  const { MicrovmRuntime, OciRuntime } = await import('@nex-nix/sandbox');
  const network = await bridgeNetwork(bridge, warn);
  await using oci = await OciRuntime.open({ stateDir: sandboxesIn(stateDir), network });
  yield oci;
  const machines = machinesIn(stateDir);
  if (!existsSync(machines)) return;
  await using microvm = await MicrovmRuntime.open({ stateDir: machines, network, tidy: false });
  yield microvm;
}

function describe(found: readonly Leftover[], dryRun: boolean): string {
  if (found.length === 0) return 'Nothing is left over';
  const rows = found.map(({ kind, name }) => [kind, name]);
  return table(dryRun ? 'Left over, not removed' : 'Removed', ['What', 'Name'], rows);
}
