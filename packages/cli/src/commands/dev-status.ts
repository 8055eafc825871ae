import { Command } from 'commander';
import { action } from '../context.ts';
import { addTarget, type Target } from '../dev/target.ts';

/** Exit code when something is not ready. */
const NOT_READY = 1;

export const devStatus = (): Command =>
  addTarget(new Command('status').description('Show the dev services'))
    .addHelpText(
      'after',
      '\nExit code: 0 all are ready, 1 one is not, 3 none run.\n\nExamples:\n  nex dev status\n  nex dev status --json',
    )
    .action(
      action<Target>(async (_context, target) => {
        const { requireRunning } = await import('../dev/target.ts');
        const { serviceTable } = await import('../dev/summary.ts');
        const { isUp } = await import('../dev/service-style.ts');
        await using running = await requireRunning(target);
        const status = await running.status();
        return { value: status, text: serviceTable(status), exitCode: status.services.every(isUp) ? 0 : NOT_READY };
      }),
    );
