import { resolve } from 'node:path';
import { Command } from 'commander';
import { action } from '../context.ts';
import { addTarget, type Target } from '../dev/target.ts';

export const devDown = (): Command =>
  addTarget(new Command('down').description('Stop the dev services; their data stays'))
    .addHelpText(
      'after',
      '\nEnds with 0 when nothing of them runs, also when nothing did.\n\nExamples:\n  nex dev down',
    )
    .action(
      action<Target>(async (_context, target) => {
        const { findRunning } = await import('../dev/target.ts');
        const dataDir = resolve(target.dataDir);
        await using running = await findRunning(target);
        if (running === undefined) {
          return { value: { dataDir, stopped: [] }, text: `No dev services run in "${dataDir}"` };
        }
        const { services } = await running.status();
        await running.down();
        const stopped = services.map(({ name }) => name);
        return { value: { dataDir, stopped }, text: `Stopped in "${dataDir}": ${stopped.toReversed().join(', ')}` };
      }),
    );
