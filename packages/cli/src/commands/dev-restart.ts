import { Command } from 'commander';
import { action } from '../context.ts';
import { addTarget, type Target } from '../dev/target.ts';

export const devRestart = (): Command =>
  addTarget(
    new Command('restart')
      .description('End services, start them again, and wait until they are ready')
      .argument('<services...>', 'nats, accounts, cache, node'),
  )
    .addHelpText('after', '\nExamples:\n  nex dev restart nats')
    .action(
      action<Target>(async (context, target, ...words) => {
        const { requireRunning } = await import('../dev/target.ts');
        const { serviceNames } = await import('../dev/service-names.ts');
        const wanted = serviceNames(words);
        await using running = await requireRunning(target);
        for (const name of wanted) {
          context.signal.throwIfAborted();
          await running.restart(name);
        }
        return { value: { restarted: wanted }, text: `Restarted, and ready: ${wanted.join(', ')}` };
      }),
    );
