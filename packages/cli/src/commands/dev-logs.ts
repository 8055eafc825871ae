import { resolve } from 'node:path';
import { Command } from 'commander';
import { action } from '../context.ts';
import { addTarget, type Target } from '../dev/target.ts';
import { positive } from '../parse.ts';

interface Options extends Target {
  follow?: boolean;
  tail?: number;
}

export const devLogs = (): Command =>
  addTarget(
    new Command('logs')
      .description('Print what dev services have printed')
      .argument('[services...]', 'nats, accounts, cache, node; default: all'),
  )
    .option('-f, --follow', 'go on with new lines until Ctrl-C, or until the services end')
    .option('--tail <lines>', 'the last lines only', positive('a number of lines', { whole: true }))
    .addHelpText(
      'after',
      '\nThe lines of earlier runs are there too, as far as they are kept; also when nothing runs. With --json: an object a line.' +
        '\n\nExamples:\n  nex dev logs --tail 20\n  nex dev logs -f nats node',
    )
    .action(
      action<Options>(async (context, { follow = false, tail, dataDir }, ...words) => {
        const { findRunning, requireRunning } = await import('../dev/target.ts');
        const { serviceNames } = await import('../dev/service-names.ts');
        const { printEntries } = await import('../dev/log-printer.ts');
        const services = words.length === 0 ? undefined : serviceNames(words);
        await using running = follow ? await requireRunning({ dataDir }) : await findRunning({ dataDir });
        const { devLog } = await import('@nex-nix/devenv');
        const { signal } = context;
        const entries =
          running === undefined
            ? devLog(resolve(dataDir), { services, tail, signal })
            : running.logs({ services, tail, follow, signal });
        const count = await printEntries(entries, { json: context.globals.json === true });
        if (count === 0 && !signal.aborted) context.say('No lines are kept');
        return undefined;
      }),
    );
